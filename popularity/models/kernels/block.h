// The whole Mamba block, forward and backward, tile by tile: projections, convolution, scan and gate.
#pragma once
#include "conv.h"
#include "gemm.h"
#include "scan_backward.h"
#include "tiles.h"

// tokens * channels of a tile: of a dozen such arrays the few in use at a time fit a core's cache
constexpr int64_t TILE = 24576;

struct BlockCall {
  int64_t batch, length, width, channels, states, rank, taps, interval, threads;
  const float *u;                  // rows of width
  const float *w_in;               // (2 channels, width)
  const float *conv, *conv_bias;   // (taps, channels), (channels)
  const float *w_x, *w_dt, *bias;  // (rank + 2 states, channels), (channels, rank), (channels)
  const float *A, *D, *w_out;      // (states, channels), (channels), (width, channels)
  float *out;                      // rows of width rounded up to CHANNELS
  float *xz, *projected, *kept;    // rows of 2 channels; of rank + 2 states rounded up: delta's factors, B, C
  const float *dout;               // rows of width
  float *du;                       // as out; null if not wanted
  float *sums;                     // (threads, Sums::size)
};

struct Sums {  // one thread's gradients of the parameters, in this order; w_in and w_dt transposed
  float *w_in, *conv, *conv_bias, *w_x, *w_dt, *bias, *A, *D, *w_out;
  Sums(const BlockCall &a, float *p) {
    const int64_t d = a.channels;
    w_in = p, conv = w_in + a.width * 2 * d, conv_bias = conv + a.taps * d, w_x = conv_bias + d;
    w_dt = w_x + (a.rank + 2 * a.states) * d, bias = w_dt + a.rank * d, A = bias + d, D = A + a.states * d,
    w_out = D + d;
  }
  static int64_t size(const BlockCall &a) {
    return (3 * a.width + a.taps + a.rank + 2 * a.states + a.rank + a.states + 3) * a.channels;
  }
};

INLINE Tiling tiling_of(const BlockCall &a) {
  return {a.length, TILE / a.channels > SEGMENT ? TILE / a.channels : SEGMENT, a.interval};
}

struct Widths {
  int64_t out, projected;
  explicit Widths(const BlockCall &a)
      : out(round_up(a.width, CHANNELS)), projected(round_up(a.rank + 2 * a.states, CHANNELS)) {}
};

INLINE Stretch stretch_of(const BlockCall &a, const Tile &tile, int64_t i, const float *xc, const float *delta) {
  const int64_t offset = i * tile.tokens, row = tile.row + offset, d = a.channels, p = Widths(a).projected;
  const float *b = a.projected + row * p + a.rank;
  // clang-format off
  return {tile.tokens, d, a.states, xc + offset * d, delta + offset * d, a.xz + row * 2 * d + d, b, b + a.states,
          d, d, 2 * d, p, p, a.A, a.D, a.bias, true};
  // clang-format on
}
INLINE Conv conv_of(const BlockCall &a, const Tile &tile, int64_t i) {
  const int64_t row = tile.row + i * tile.tokens;
  return {tile.tokens, tile.first, a.channels, a.xz + row * 2 * a.channels, 2 * a.channels, a.conv, a.conv_bias};
}

extern "C" int popularity_block_forward(const BlockCall *call) {
  const BlockCall &a = *call;
  const Widths width(a);
  const Tiling tiling = tiling_of(a);
  const int64_t d = a.channels, size = a.states * d, factors = a.rank + 2 * a.states;
  float *p = workspace.get(a.width * 2 * d + d * (width.projected + width.out) + a.rank * d + 256);
  if (!p) return 1;
  // the packed weights are this thread's workspace, so that the tiles' is another: taken from the heap once a thread
  float *w_in = take(p, a.width * 2 * d), *w_x = take(p, d * width.projected), *w_dt = take(p, a.rank * d),
        *w_out = take(p, d * width.out);
  pack(w_in, a.width, 2 * d, a.w_in, 1, a.width);
  pack(w_x, d, factors, a.w_x, 1, d);
  pack(w_dt, a.rank, d, a.w_dt, 1, a.rank);
  pack(w_out, d, a.width, a.w_out, 1, d);
  return share_out(a.batch, a.threads, [&](int64_t from, int64_t to, int64_t) {
    float *q = tiles.get(3 * tiling.rows() * d + size + 64);
    if (!q) return false;
    float *xc = take(q, tiling.rows() * d), *delta = take(q, tiling.rows() * d), *y = take(q, tiling.rows() * d),
          *states = take(q, size);
    for_tiles(tiling, from, to, false, [&](const Tile &tile) {
      product<false>(tile.rows, 2 * d, a.width, a.u + tile.row * a.width, a.width, w_in, a.xz + tile.row * 2 * d, 2 * d,
                     false);
      for (int64_t i = 0; i < tile.sequences; i++)
        FOR_TAPS(a.taps, conv_forward<TAPS>(conv_of(a, tile, i), xc + i * tile.tokens * d, nullptr))
      float *projected = a.projected + tile.row * width.projected;
      product<false>(tile.rows, factors, d, xc, d, w_x, projected, width.projected, false);
      product<false>(tile.rows, d, a.rank, projected, width.projected, w_dt, delta, d, false);
      for (int64_t i = 0; i < tile.sequences; i++) {
        if (!tile.first) memset(states, 0, sizeof(float) * size);
        const Kept kept = kept_of(a.kept, tile.sequence + i, a.length, a.interval, size, tile.first);
        scan_forward(stretch_of(a, tile, i, xc, delta), states, kept, y + i * tile.tokens * d, d);
      }
      product<false>(tile.rows, a.width, d, y, d, w_out, a.out + tile.row * width.out, width.out, false);
    });
    return true;
  });
}

// out[t][r] = sum over d of a[t][d] b[r][d]
static void dots(int64_t rows, int64_t columns, int64_t depth, const float *a, const float *b, float *out,
                 int64_t out_row) {
  for (int64_t t = 0; t < rows; t++)
    for (int64_t r = 0; r < columns; r += 4) {
      const int64_t count = at_most(columns - r, 4);
      float sums[4 * W];
      vec sum[4] = {};
      if (count == 4)
        for (int64_t d = 0; d < depth; d += W)
          UNROLL for (int j = 0; j < 4; j++) sum[j] += load(a + t * depth + d) * load(b + (r + j) * depth + d);
      else
        for (int64_t j = 0; j < count; j++)
          for (int64_t d = 0; d < depth; d += W) sum[j] += load(a + t * depth + d) * load(b + (r + j) * depth + d);
      UNROLL for (int j = 0; j < 4; j++) store(sums + j * W, sum[j]);
      sum_lanes_of(sums, count, out + t * out_row + r);
    }
}

extern "C" int popularity_block_backward(const BlockCall *call) {
  const BlockCall &a = *call;
  const Widths width(a);
  const Tiling tiling = tiling_of(a);
  const int64_t d = a.channels, size = a.states * d, factors = a.rank + 2 * a.states, rows = tiling.rows();
  float *p = workspace.get(2 * d * width.out + a.width * d + factors * d + 2 * a.rank * d + 256);
  if (!p) return 1;
  float *w_in = take(p, 2 * d * width.out), *w_x = take(p, factors * d), *w_dt = take(p, a.rank * d),
        *w_dt_rows = take(p, a.rank * d), *w_out = take(p, a.width * d);
  pack(w_in, 2 * d, a.width, a.w_in, a.width, 1);
  pack(w_x, factors, d, a.w_x, d, 1);
  pack(w_dt, a.rank, d, a.w_dt, 1, a.rank);
  for (int64_t i = 0; i < d; i++)
    for (int64_t r = 0; r < a.rank; r++) w_dt_rows[r * d + i] = a.w_dt[i * a.rank + r];
  pack(w_out, a.width, d, a.w_out, d, 1);
  return share_out(a.batch, a.threads, [&](int64_t from, int64_t to, int64_t thread) {
    float *q = tiles.get(9 * rows * d + rows * width.projected + size + TAPS_MAX * d +
                         scratch_size(d, a.states, a.interval) + 256);
    if (!q) return false;
    float *xc = take(q, rows * d), *slope = take(q, rows * d), *delta = take(q, rows * d), *grad_x = take(q, rows * d),
          *y = take(q, rows * d);
    float *dxz = take(q, rows * 2 * d), *packed = take(q, rows * 2 * d), *dprojected = take(q, rows * width.projected);
    float *carry = take(q, size), *later = take(q, TAPS_MAX * d);
    const Scratch scratch = scratch_in(q, d, a.states, a.interval);
    const Sums sums(a, a.sums + thread * Sums::size(a));
    for_tiles(tiling, from, to, true, [&](const Tile &tile) {
      const float *dout = a.dout + tile.row * a.width, *projected = a.projected + tile.row * width.projected;
      product<false>(tile.rows, d, a.width, dout, a.width, w_out, grad_x, d, false);
      for (int64_t i = 0; i < tile.sequences; i++)
        FOR_TAPS(a.taps, conv_forward<TAPS>(conv_of(a, tile, i), xc + i * tile.tokens * d, slope + i * tile.tokens * d))
      product<false>(tile.rows, d, a.rank, projected, width.projected, w_dt, delta, d, false);
      for (int64_t i = 0; i < tile.sequences; i++) {
        const int64_t at = i * tile.tokens;
        if (tile.first + tile.tokens == a.length) memset(carry, 0, sizeof(float) * size);
        float *db = dprojected + at * width.projected + a.rank;
        // the gradients of x and delta take the places of dy and delta, which are read before they are written
        // clang-format off
        const StretchGradients grad = {
            grad_x + at * d, grad_x + at * d, delta + at * d, dxz + at * 2 * d + d, db, db + a.states, y + at * d,
            d, d, d, 2 * d, width.projected, width.projected, d, sums.A, sums.D, sums.bias};
        // clang-format on
        scan_backward(stretch_of(a, tile, i, xc, delta), grad,
                      kept_of(a.kept, tile.sequence + i, a.length, a.interval, size, tile.first), carry, scratch);
      }
      add_outer(a.width, d, tile.rows, dout, a.width, y, d, packed, sums.w_out);
      dots(tile.rows, a.rank, d, delta, w_dt_rows, dprojected, width.projected);
      add_outer(a.rank, d, tile.rows, projected, width.projected, delta, d, packed, sums.w_dt);
      add_outer(factors, d, tile.rows, dprojected, width.projected, xc, d, packed, sums.w_x);
      product<false>(tile.rows, d, factors, dprojected, width.projected, w_x, grad_x, d, true);
      for (int64_t i = 0; i < tile.sequences; i++) {
        const int64_t at = i * tile.tokens * d;
        if (tile.first + tile.tokens == a.length) memset(later, 0, sizeof(float) * TAPS_MAX * d);
        FOR_TAPS(a.taps, conv_backward<TAPS>(conv_of(a, tile, i), grad_x + at, slope + at, dxz + 2 * at, 2 * d, later,
                                             sums.conv, sums.conv_bias))
      }
      add_outer(a.width, 2 * d, tile.rows, a.u + tile.row * a.width, a.width, dxz, 2 * d, packed, sums.w_in);
      if (a.du)
        product<false>(tile.rows, a.width, 2 * d, dxz, 2 * d, w_in, a.du + tile.row * width.out, width.out, false);
    });
    return true;
  });
}
