// The whole Mamba-2 block on short sequences, forward and backward, tile by tile of whole sequences: projection,
// convolution, dual form, gated norm, projection.
#pragma once
#include "conv.h"
#include "ssd.h"
#include "workspace.h"

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

struct Mamba2Tile {  // whole sequences; arrays of the tile alone start at its first token
  int64_t first, sequences, length, rows;
};

INLINE int64_t mamba2_tile_sequences(const Mamba2Call &a) {
  const int64_t wanted = MAMBA2_TILE / Mamba2Widths(a).row / a.length;
  return wanted > 1 ? wanted : 1;
}

template <typename Work>
static void for_mamba2_tiles(const Mamba2Call &a, int64_t from, int64_t to, const Work &work) {
  const int64_t most = mamba2_tile_sequences(a);
  for (int64_t i = from; i < to; i += most) {
    const int64_t count = at_most(to - i, most);
    work(Mamba2Tile{i * a.length, count, a.length, count * a.length});
  }
}

struct Mamba2Steps {
  float *dt, *decay, *slope;  // rows of `steps`; slope: of softplus, null in the forward pass
};

// Step sizes and decays of a tile from its rows of the projection.
static void mamba2_steps(const Mamba2Call &a, const Mamba2Tile &tile, const float *projected, const Mamba2Steps &s) {
  const Mamba2Widths n(a);
  for (int64_t t = 0; t < tile.rows; t++) {
    const float keep = a.keep ? a.keep[tile.first + t] : 1.f;
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

INLINE Conv mamba2_conv(const Mamba2Call &a, const float *projected) {
  const Mamba2Widths n(a);
  return {a.length, 0, n.mixed, projected + n.inner, n.row, a.conv, a.conv_bias};
}
INLINE Sequence mamba2_sequence(const Mamba2Call &a, const float *xbc, const Mamba2Steps &s, int64_t row) {
  const Mamba2Widths n(a);
  const float *x = xbc + row * n.mixed, *b = x + n.inner, *dt = s.dt + row * a.steps, *decay = s.decay + row * a.steps;
  return {a.length, a.heads, a.headdim, a.states, x, b, b + a.states, n.mixed, dt, decay, a.steps, a.D};
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
  static thread_local Workspace tiles;
  const int64_t rows = mamba2_tile_sequences(a) * a.length;
  return share_out(a.batch, a.threads, [&](int64_t from, int64_t to, int64_t) {
    float *q = tiles.get(rows * (n.mixed + n.inner + 2 * a.steps) + Pairs::size(a.headdim, a.states) + 8 * (16 + GAP));
    if (!q) return false;
    float *xbc = take(q, rows * n.mixed), *y = take(q, rows * n.inner), *dt = take(q, rows * a.steps),
          *decay = take(q, rows * a.steps);
    const Pairs pairs(q, a.headdim, a.states);
    const Mamba2Steps steps = {dt, decay, nullptr};
    for_mamba2_tiles(a, from, to, [&](const Mamba2Tile &tile) {
      float *projected = a.projected + tile.first * n.row;
      product<false>(tile.rows, n.row, a.width, a.u + tile.first * a.width, a.width, w_in, projected, n.row, false);
      mamba2_steps(a, tile, projected, steps);
      for (int64_t row = 0; row < tile.rows; row += a.length) {
        FOR_TAPS(a.taps, conv_forward<TAPS>(mamba2_conv(a, projected + row * n.row), xbc + row * n.mixed, nullptr))
        ssd_forward(mamba2_sequence(a, xbc, steps, row), pairs, y + row * n.inner, n.inner);
      }
      for (int64_t t = 0; t < tile.rows; t++) gated_norm(a, n.inner, projected + t * n.row, y + t * n.inner);
      product<false>(tile.rows, a.width, n.inner, y, n.inner, w_out, a.out + tile.first * n.out, n.out, false);
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
  static thread_local Workspace tiles;
  const int64_t rows = mamba2_tile_sequences(a) * a.length;
  return share_out(a.batch, a.threads, [&](int64_t from, int64_t to, int64_t thread) {
    float *q = tiles.get(rows * (3 * n.mixed + 2 * n.inner + 2 * n.row + 5 * a.steps) + TAPS_MAX * n.mixed +
                         3 * n.inner + Pairs::size(a.headdim, a.states) + 20 * (16 + GAP));
    if (!q) return false;
    float *xbc = take(q, rows * n.mixed), *slope = take(q, rows * n.mixed), *dxbc = take(q, rows * n.mixed),
          *y = take(q, rows * n.inner), *grad = take(q, rows * n.inner), *dprojected = take(q, rows * n.row),
          *packed = take(q, rows * n.row), *later = take(q, TAPS_MAX * n.mixed), *scratch = take(q, 3 * n.inner),
          *ddt = take(q, rows * a.steps), *dlog = take(q, rows * a.steps);
    float *dt = take(q, rows * a.steps), *decay = take(q, rows * a.steps), *dt_slope = take(q, rows * a.steps);
    const Pairs pairs(q, a.headdim, a.states);
    const Mamba2Steps steps = {dt, decay, dt_slope};
    const Mamba2Sums sums(a, a.sums + thread * Mamba2Sums::size(a));
    memset(ddt, 0, sizeof(float) * rows * a.steps);  // the steps behind the last head's stay 0
    memset(dlog, 0, sizeof(float) * rows * a.steps);
    for_mamba2_tiles(a, from, to, [&](const Mamba2Tile &tile) {
      const float *projected = a.projected + tile.first * n.row, *dout = a.dout + tile.first * a.width;
      product<false>(tile.rows, n.inner, a.width, dout, a.width, w_out, grad, n.inner, false);
      mamba2_steps(a, tile, projected, steps);
      for (int64_t row = 0; row < tile.rows; row += a.length) {
        const Conv conv = mamba2_conv(a, projected + row * n.row);
        FOR_TAPS(a.taps, conv_forward<TAPS>(conv, xbc + row * n.mixed, slope + row * n.mixed))
        const Sequence sequence = mamba2_sequence(a, xbc, steps, row);
        ssd_forward(sequence, pairs, y + row * n.inner, n.inner);
        for (int64_t t = row; t < row + a.length; t++)
          gated_norm_backward(a, n.inner, projected + t * n.row, y + t * n.inner, grad + t * n.inner,
                              dprojected + t * n.row, scratch);
        float *dx = dxbc + row * n.mixed, *db = dx + n.inner;
        ssd_backward(sequence, pairs,
                     {grad + row * n.inner, n.inner, dx, db, db + a.states, ddt + row * a.steps, dlog + row * a.steps,
                      sums.D});
        memset(later, 0, sizeof(float) * TAPS_MAX * n.mixed);
        FOR_TAPS(a.taps, conv_backward<TAPS>(conv, dx, slope + row * n.mixed, dprojected + row * n.row + n.inner, n.row,
                                             later, sums.conv, sums.conv_bias))
      }
      mamba2_steps_backward(a, tile.rows, steps, ddt, dlog, dprojected + n.inner + n.mixed, n.row, sums);
      add_outer(a.width, n.inner, tile.rows, dout, a.width, y, n.inner, packed, sums.w_out);
      add_outer(a.width, n.row, tile.rows, a.u + tile.first * a.width, a.width, dprojected, n.row, packed, sums.w_in);
      if (a.du)
        product<false>(tile.rows, a.width, n.row, dprojected, n.row, w_in, a.du + tile.first * n.out, n.out, false);
    });
    return true;
  });
}
