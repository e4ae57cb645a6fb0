// The whole Mamba-2 block with one group, forward and backward, tile by tile: projection, convolution, scan by chunks,
// gated norm, projection.
#pragma once
#include "conv.h"
#include "ssd_states.h"
#include "tiles.h"

// tokens * rows of the projection in a tile: of half a dozen such arrays the few in use at a time fit a core's cache
constexpr int64_t MAMBA2_TILE = 32768;
constexpr float EPSILON = 1e-5f;  // of the gated RMSNorm

// Sizes of heads, states and steps are padded by Python to multiples of CHANNELS, each kind of row with zeros: `inner`
// is heads * headdim, a row of the projection holds z (inner), x (inner), B (states), C (states), dt (steps).
struct Mamba2Call {
  int64_t batch, length, width, heads, headdim, states, steps, taps, threads;
  int64_t channels;               // of all heads without padding: those that the norm's mean is over
  const float *u, *keep;          // rows of width; (batch, length), 0 where a token has no step, else 1, or null
  const float *w_in;              // (row of the projection, width)
  const float *conv, *conv_bias;  // (taps, inner + 2 states), (inner + 2 states)
  const float *dt_bias, *A, *D;   // (steps) each
  const float *w_out;             // (width, inner), with the norm's weight as a factor
  float *out, *projected;         // rows of width rounded up to CHANNELS; rows of the projection
  float *kept;                    // (batch, chunks - 1, inner * states): states before chunks; null without backward
  const float *dout;              // rows of width
  float *du;                      // as out; null if not wanted
  float *sums;                    // (threads, Mamba2Sums::size)
};

struct Mamba2Widths {
  int64_t inner, mixed, row, out;  // mixed: what the convolution is over
  explicit Mamba2Widths(const Mamba2Call &a)
      : inner(a.heads * a.headdim),
        mixed(inner + 2 * a.states),
        row(inner + mixed + a.steps),
        out(round_up(a.width, CHANNELS)) {}
};

struct Mamba2Sums {  // one thread's gradients of the parameters, in this order; w_in transposed
  float *w_in, *conv, *conv_bias, *dt_bias, *A, *D, *w_out;
  Mamba2Sums(const Mamba2Call &a, float *p) {
    const Mamba2Widths n(a);
    w_in = p, conv = w_in + a.width * n.row, conv_bias = conv + a.taps * n.mixed, dt_bias = conv_bias + n.mixed;
    A = dt_bias + a.steps, D = A + a.steps, w_out = D + a.steps;
  }
  static int64_t size(const Mamba2Call &a) {
    const Mamba2Widths n(a);
    return a.width * (n.row + n.inner) + (a.taps + 1) * n.mixed + 3 * a.steps;
  }
};

INLINE Tiling mamba2_tiling(const Mamba2Call &a) {
  const int64_t wanted = MAMBA2_TILE / Mamba2Widths(a).row, least = at_most(a.length, CHUNK);
  return {a.length, wanted > least ? wanted : least, CHUNK};
}

struct Mamba2Steps {
  float *dt, *decay, *slope;  // rows of `steps`; slope: of softplus, null in the forward pass
};

// Step sizes and decays of a tile from its rows of the projection.
static void mamba2_steps(const Mamba2Call &a, const Tile &tile, const float *projected, const Mamba2Steps &s) {
  const Mamba2Widths n(a);
  for (int64_t t = 0; t < tile.rows; t++) {
    const float keep = a.keep ? a.keep[tile.row + t] : 1.f;
    for (int64_t j = 0; j < a.steps; j += W) {
      const int64_t at = t * a.steps + j;
      vec slope;
      const vec raw = load(projected + t * n.row + n.inner + n.mixed + j) + load(a.dt_bias + j);
      const vec dt = softplus(raw, s.slope ? &slope : nullptr) * keep;
      store(s.dt + at, dt);
      store(s.decay + at, exp_negative(dt * load(a.A + j)));
      if (s.slope) store(s.slope + at, slope * keep);
    }
  }
}

// The sequence, or stretch of it, that begins at this row of the tile.
INLINE Conv mamba2_conv(const Mamba2Call &a, const Tile &tile, const float *projected, int64_t row) {
  const Mamba2Widths n(a);
  return {tile.tokens, tile.first, n.mixed, projected + row * n.row + n.inner, n.row, a.conv, a.conv_bias};
}
// The chunk that begins at this row of the tile, and at this token of the tile's share of its sequence.
INLINE Chunk mamba2_chunk(const Mamba2Call &a, const Tile &tile, const float *xbc, const Mamba2Steps &s, int64_t row,
                          int64_t token) {
  const Mamba2Widths n(a);
  const float *x = xbc + row * n.mixed, *b = x + n.inner, *dt = s.dt + row * a.steps, *decay = s.decay + row * a.steps;
  // clang-format off
  return {at_most(tile.tokens - token, CHUNK), a.heads, a.headdim, a.states, x, b, b + a.states, n.mixed,
          dt, decay, a.steps, a.D};
  // clang-format on
}
// The states kept before token `token` of a sequence, the first of a chunk.
INLINE float *mamba2_kept(const Mamba2Call &a, int64_t sequence, int64_t token) {
  const int64_t size = a.heads * a.headdim * a.states;
  return a.kept + (sequence * ((a.length - 1) / CHUNK) + token / CHUNK - 1) * size;
}

INLINE float norm_scale(const Mamba2Call &a, vec squares) {
  return 1.f / __builtin_sqrtf(sum_lanes(squares) / (float)a.channels + EPSILON);
}

// In place of a row y: y SiLU(z), divided by its root mean square.
static void gated_norm(const Mamba2Call &a, int64_t inner, const float *z, float *y) {
  vec squares = {};
  for (int64_t d = 0; d < inner; d += W) {
    const vec gate = load(z + d), gated = load(y + d) * gate * sigmoid(gate);
    store(y + d, gated);
    squares += gated * gated;
  }
  const float scale = norm_scale(a, squares);
  for (int64_t d = 0; d < inner; d += W) store(y + d, load(y + d) * scale);
}

// In place of a row y the same, in place of its gradient that of y, and that of z. scratch: (3, inner).
static void gated_norm_backward(const Mamba2Call &a, int64_t inner, const float *z, float *y, float *grad, float *dz,
                                float *scratch) {
  float *gate = scratch, *slope = scratch + inner, *gated = slope + inner;
  vec squares = {}, products = {};
  for (int64_t d = 0; d < inner; d += W) {
    __builtin_prefetch(z + d + Mamba2Widths(a).row);  // of the next token: nothing else has read it in this pass
    const vec v = load(z + d), s = sigmoid(v), g = load(y + d) * v * s;
    store(gate + d, v * s);
    store(slope + d, s * (1.f + v * (1.f - s)));
    store(gated + d, g);
    squares += g * g;
    products += g * load(grad + d);
  }
  const float scale = norm_scale(a, squares);
  const float shrink = sum_lanes(products) / (float)a.channels * scale * scale;
  for (int64_t d = 0; d < inner; d += W) {
    const vec g = load(gated + d), dg = (load(grad + d) - g * shrink) * scale;
    store(dz + d, dg * load(y + d) * load(slope + d));
    store(grad + d, dg * load(gate + d));
    store(y + d, g * scale);
  }
}

extern "C" int popularity_mamba2_forward(const Mamba2Call *call) {
  const Mamba2Call &a = *call;
  const Mamba2Widths n(a);
  float *p = workspace.get(a.width * n.row + n.inner * n.out + 4 * (16 + GAP));
  if (!p) return 1;
  float *w_in = take(p, a.width * n.row), *w_out = take(p, n.inner * n.out);
  pack(w_in, a.width, n.row, a.w_in, 1, a.width);
  pack(w_out, n.inner, a.width, a.w_out, 1, n.inner);
  const Tiling tiling = mamba2_tiling(a);
  const int64_t rows = tiling.rows(), size = n.inner * a.states;
  return share_out(a.batch, a.threads, [&](int64_t from, int64_t to, int64_t) {
    float *q = tiles.get(rows * (n.mixed + n.inner + 2 * a.steps) + (a.length > CHUNK ? size : 0) +
                         Pairs::size(a.headdim, a.states) + 8 * (16 + GAP));
    if (!q) return false;
    float *xbc = take(q, rows * n.mixed), *y = take(q, rows * n.inner), *dt = take(q, rows * a.steps),
          *decay = take(q, rows * a.steps), *states = take(q, a.length > CHUNK ? size : 0);
    const Pairs pairs(q, a.headdim, a.states);
    const Mamba2Steps steps = {dt, decay, nullptr};
    for_tiles(tiling, from, to, false, [&](const Tile &tile) {
      float *projected = a.projected + tile.row * n.row;
      product<false>(tile.rows, n.row, a.width, a.u + tile.row * a.width, a.width, w_in, projected, n.row, false);
      mamba2_steps(a, tile, projected, steps);
      for (int64_t i = 0; i < tile.sequences; i++) {
        const int64_t start = i * tile.tokens;
        const Conv conv = mamba2_conv(a, tile, projected, start);
        FOR_TAPS(a.taps, conv_forward<TAPS>(conv, xbc + start * n.mixed, nullptr))
        for (int64_t t = 0; t < tile.tokens; t += CHUNK) {
          const int64_t token = tile.first + t, row = start + t;
          const auto place = [&](int64_t at) { return a.kept ? mamba2_kept(a, tile.sequence + i, at) : states; };
          const float *before = token ? place(token) : nullptr;
          float *after = token + CHUNK < a.length ? place(token + CHUNK) : nullptr;
          ssd_forward(mamba2_chunk(a, tile, xbc, steps, row, t), pairs, before, after, y + row * n.inner, n.inner);
        }
      }
      for (int64_t t = 0; t < tile.rows; t++) gated_norm(a, n.inner, projected + t * n.row, y + t * n.inner);
      product<false>(tile.rows, a.width, n.inner, y, n.inner, w_out, a.out + tile.row * n.out, n.out, false);
    });
    return true;
  });
}

// Gradients of the step sizes before softplus, from those of dt as a factor and of the decays' logarithms, and sums.
static void mamba2_steps_backward(const Mamba2Call &a, int64_t rows, const Mamba2Steps &s, const float *ddt,
                                  const float *dlog, float *draw, int64_t draw_row, const Mamba2Sums &sums) {
  for (int64_t j = 0; j < a.steps; j += W) {
    const vec A = load(a.A + j);
    vec dA = load(sums.A + j), dbias = load(sums.dt_bias + j);
    for (int64_t t = 0; t < rows; t++) {
      const int64_t at = t * a.steps + j;
      const vec raw = (load(ddt + at) + load(dlog + at) * A) * load(s.slope + at);
      store(draw + t * draw_row + j, raw);
      dA += load(dlog + at) * load(s.dt + at);
      dbias += raw;
    }
    store(sums.A + j, dA);
    store(sums.dt_bias + j, dbias);
  }
}

extern "C" int popularity_mamba2_backward(const Mamba2Call *call) {
  const Mamba2Call &a = *call;
  const Mamba2Widths n(a);
  float *p = workspace.get(n.row * n.out + a.width * n.inner + 4 * (16 + GAP));
  if (!p) return 1;
  float *w_in = take(p, n.row * n.out), *w_out = take(p, a.width * n.inner);
  pack(w_in, n.row, a.width, a.w_in, a.width, 1);
  pack(w_out, a.width, n.inner, a.w_out, n.inner, 1);
  const Tiling tiling = mamba2_tiling(a);
  const int64_t rows = tiling.rows(), size = n.inner * a.states;
  return share_out(a.batch, a.threads, [&](int64_t from, int64_t to, int64_t thread) {
    float *q = tiles.get(rows * (3 * n.mixed + 2 * n.inner + 2 * n.row + 5 * a.steps) + TAPS_MAX * n.mixed +
                         3 * n.inner + (a.length > CHUNK ? size : 0) + Pairs::size(a.headdim, a.states) +
                         20 * (16 + GAP));
    if (!q) return false;
    float *xbc = take(q, rows * n.mixed), *slope = take(q, rows * n.mixed), *dxbc = take(q, rows * n.mixed),
          *y = take(q, rows * n.inner), *grad = take(q, rows * n.inner), *dprojected = take(q, rows * n.row),
          *packed = take(q, rows * n.row), *later = take(q, TAPS_MAX * n.mixed), *scratch = take(q, 3 * n.inner),
          *ddt = take(q, rows * a.steps), *dlog = take(q, rows * a.steps), *dt = take(q, rows * a.steps),
          *decay = take(q, rows * a.steps), *dt_slope = take(q, rows * a.steps),
          *carry = take(q, a.length > CHUNK ? size : 0);
    const Pairs pairs(q, a.headdim, a.states);
    const Mamba2Steps steps = {dt, decay, dt_slope};
    const Mamba2Sums sums(a, a.sums + thread * Mamba2Sums::size(a));
    memset(ddt, 0, sizeof(float) * rows * a.steps);  // the steps behind the last head's stay 0
    memset(dlog, 0, sizeof(float) * rows * a.steps);
    for_tiles(tiling, from, to, true, [&](const Tile &tile) {
      const float *projected = a.projected + tile.row * n.row, *dout = a.dout + tile.row * a.width;
      product<false>(tile.rows, n.inner, a.width, dout, a.width, w_out, grad, n.inner, false);
      mamba2_steps(a, tile, projected, steps);
      for (int64_t i = 0; i < tile.sequences; i++) {
        const int64_t start = i * tile.tokens;
        const Conv conv = mamba2_conv(a, tile, projected, start);
        FOR_TAPS(a.taps, conv_forward<TAPS>(conv, xbc + start * n.mixed, slope + start * n.mixed))
        for (int64_t t = (tile.tokens - 1) / CHUNK * CHUNK; t >= 0; t -= CHUNK) {
          const int64_t token = tile.first + t, row = start + t;
          const Chunk chunk = mamba2_chunk(a, tile, xbc, steps, row, t);
          const float *before = token ? mamba2_kept(a, tile.sequence + i, token) : nullptr;
          ssd_forward(chunk, pairs, before, nullptr, y + row * n.inner, n.inner);
          for (int64_t r = row; r < row + chunk.tokens; r++)
            gated_norm_backward(a, n.inner, projected + r * n.row, y + r * n.inner, grad + r * n.inner,
                                dprojected + r * n.row, scratch);
          float *dx = dxbc + row * n.mixed, *db = dx + n.inner, *dc = db + a.states;
          // clang-format off
          const ChunkGradients gradients = {grad + row * n.inner, n.inner, dx, db, dc,
                                            ddt + row * a.steps, dlog + row * a.steps, sums.D};
          // clang-format on
          ssd_backward(chunk, pairs, gradients, before, carry, token + CHUNK < a.length);
        }
        if (tile.first + tile.tokens == a.length) memset(later, 0, sizeof(float) * TAPS_MAX * n.mixed);
        FOR_TAPS(a.taps,
                 conv_backward<TAPS>(conv, dxbc + start * n.mixed, slope + start * n.mixed,
                                     dprojected + start * n.row + n.inner, n.row, later, sums.conv, sums.conv_bias))
      }
      mamba2_steps_backward(a, tile.rows, steps, ddt, dlog, dprojected + n.inner + n.mixed, n.row, sums);
      add_outer(a.width, n.inner, tile.rows, dout, a.width, y, n.inner, packed, sums.w_out);
      add_outer(a.width, n.row, tile.rows, a.u + tile.row * a.width, a.width, dprojected, n.row, packed, sums.w_in);
      if (a.du)
        product<false>(tile.rows, a.width, n.row, dprojected, n.row, w_in, a.du + tile.row * n.out, n.out, false);
    });
    return true;
  });
}
