// The scan of Mamba-2 from chunk to chunk: the block decomposition of Dao & Gu (2024), section 6. Of each head the
// states (states, headdim) at the end of a chunk are those before it, decayed, and what its tokens add.
#pragma once
#include "ssd.h"

// c (rows x columns) = a b, or += with add: as `product`, with b (depth, columns) as it lies
template <bool TRANSPOSED>
static void product_in_place(int64_t rows, int64_t columns, int64_t depth, const float *a, int64_t lda, const float *b,
                             int64_t ldb, float *c, int64_t ldc, bool add) {
  for (int64_t j = 0; j < columns; j += PANEL * W)
    product_vectors<TRANSPOSED>(at_most(columns - j, PANEL * W) / W, rows, depth, a, lda, b + j, ldb, c + j, ldc, add);
}

struct HeadSteps {  // of one head
  float dt[CHUNK], since_start[CHUNK], to_end[CHUNK];  // decays with those of the token itself, and without
  HeadSteps(const Chunk &q, int64_t head) {
    float decay = 1;
    for (int64_t t = 0; t < q.tokens; t++) {
      decay *= q.decay[t * q.step_row + head];
      since_start[t] = decay;
      dt[t] = q.dt[t * q.step_row + head];
    }
    decay = 1;
    for (int64_t t = q.tokens - 1; t >= 0; t--) {
      to_end[t] = decay;
      decay *= q.decay[t * q.step_row + head];
    }
  }
  float whole(const Chunk &q) const { return since_start[q.tokens - 1]; }
};

// out[t] = row[t] * scale[t] * more[t], without the last factor if it is null; rows of out: `states`
static void scale_rows(const Chunk &q, const float *rows, const float *scale, const float *more, float *out) {
  for (int64_t t = 0; t < q.tokens; t++) {
    const vec factor = splat(more ? scale[t] * more[t] : scale[t]);
    for (int64_t n = 0; n < q.states; n += W) store(out + t * q.states + n, load(rows + t * q.row + n) * factor);
  }
}
static void scale_all(int64_t size, const float *from, float factor, float *to) {
  for (int64_t i = 0; i < size; i += W) store(to + i, load(from + i) * factor);
}
static void transpose(int64_t rows, int64_t columns, const float *from, float *to) {
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < columns; j++) to[j * rows + i] = from[i * columns + j];
}

// y: (tokens, heads * headdim), rows y_row apart. before, after: (heads, states, headdim), the states before the chunk
// and behind it, which may be the same memory; before is null at the start of a sequence, after where nobody reads it.
static void ssd_forward(const Chunk &q, const Pairs &pairs, const float *before, float *after, float *y,
                        int64_t y_row) {
  const int64_t size = q.states * q.headdim;
  compare(q.tokens, q.states, q.c, q.row, q.b, q.row, pairs.transposed, pairs.G);
  for (int64_t head = 0; head < q.heads; head++) {
    const int64_t at = head * q.headdim;
    mixing<false>(q, head, pairs);
    mix<false>(q.tokens, q.headdim, pairs.M, q.x + at, q.row, y + at, y_row, false);
    if (!before && !after) continue;
    const HeadSteps steps(q, head);
    if (before) {
      scale_rows(q, q.c, steps.since_start, nullptr, pairs.scaled);
      product_in_place<false>(q.tokens, q.headdim, q.states, pairs.scaled, q.states, before + head * size, q.headdim,
                              y + at, y_row, true);
    }
    if (after) {
      if (before) scale_all(size, before + head * size, steps.whole(q), after + head * size);
      scale_rows(q, q.b, steps.to_end, steps.dt, pairs.scaled);
      product_in_place<true>(q.states, q.headdim, q.tokens, pairs.scaled, q.states, q.x + at, q.row,
                             after + head * size, q.headdim, before != nullptr);
    }
  }
}

// In place of part (tokens, states): each row times scale. dots[t]: its product with the row of `with` then. And grad,
// whose rows are like those of `with`, plus it, times `more` unless that is null.
static void add_rows(const Chunk &q, float *part, const float *scale, const float *with, const float *more, float *grad,
                     float *dots) {
  float sums[CHUNK * W] __attribute__((aligned(64)));
  for (int64_t t = 0; t < q.tokens; t++) {
    const float step = more ? more[t] : 1.f;
    vec sum = {};
    for (int64_t n = 0; n < q.states; n += W) {
      const vec v = load(part + t * q.states + n) * scale[t];
      float *to = grad + t * q.row + n;
      sum += v * load(with + t * q.row + n);
      store(to, load(to) + v * step);
    }
    store(sums + t * W, sum);
  }
  sum_lanes_of(sums, q.tokens, dots);
}

// Of one head: gradients through the states before the chunk, or null, and through those behind it if `later`, whose
// gradient is in `carry`: (states, headdim). Afterwards that of the states before is there.
static void states_backward(const Chunk &q, int64_t head, const Pairs &pairs, const ChunkGradients &grad,
                            const float *before, float *carry, bool later) {
  const int64_t at = head * q.headdim, size = q.states * q.headdim;
  const HeadSteps steps(q, head);
  // gradients of the logarithms of since_start, of to_end and of the decay over the whole chunk
  float read[CHUNK] = {}, added[CHUNK] = {}, through = 0;
  if (later) {
    scale_rows(q, q.b, steps.to_end, steps.dt, pairs.scaled);
    product_in_place<false>(q.tokens, q.headdim, q.states, pairs.scaled, q.states, carry, q.headdim, grad.dx + at,
                            q.row, true);
    transpose(q.states, q.headdim, carry, pairs.transposed);
    product_in_place<false>(q.tokens, q.states, q.headdim, q.x + at, q.row, pairs.transposed, q.states, pairs.scaled,
                            q.states, false);
    add_rows(q, pairs.scaled, steps.to_end, q.b, steps.dt, grad.db, added);
    for (int64_t t = 0; t < q.tokens; t++) {
      grad.ddt[t * q.step_row + head] += added[t];
      added[t] *= steps.dt[t];
    }
  }
  if (before) {
    if (later) {
      vec sum = {};
      for (int64_t i = 0; i < size; i += W) sum += load(before + i) * load(carry + i);
      through = sum_lanes(sum) * steps.whole(q);
      scale_all(size, carry, steps.whole(q), carry);
    }
    transpose(q.states, q.headdim, before, pairs.transposed);
    product_in_place<false>(q.tokens, q.states, q.headdim, grad.dy + at, grad.dy_row, pairs.transposed, q.states,
                            pairs.scaled, q.states, false);
    add_rows(q, pairs.scaled, steps.since_start, q.c, nullptr, grad.dc, read);
    scale_rows(q, q.c, steps.since_start, nullptr, pairs.scaled);
    product_in_place<true>(q.states, q.headdim, q.tokens, pairs.scaled, q.states, grad.dy + at, grad.dy_row, carry,
                           q.headdim, later);
  }
  // a token's decay is in since_start of itself and those behind it, and in to_end of those before it
  float sum = through;
  for (int64_t t = 0; t < q.tokens; t++) {
    grad.dlog[t * q.step_row + head] += sum;
    sum += added[t];
  }
  sum = 0;
  for (int64_t t = q.tokens - 1; t >= 0; t--) {
    sum += read[t];
    grad.dlog[t * q.step_row + head] += sum;
  }
}

// before as in `ssd_forward`; carry: (heads, states, headdim), as in `states_backward`.
static void ssd_backward(const Chunk &q, const Pairs &pairs, const ChunkGradients &grad, const float *before,
                         float *carry, bool later) {
  const int64_t size = q.states * q.headdim;
  compare(q.tokens, q.states, q.c, q.row, q.b, q.row, pairs.transposed, pairs.G);
  memset(pairs.dG, 0, sizeof(float) * CHUNK * q.tokens);
  for (int64_t t = 0; t < q.tokens; t++)
    for (int64_t n = 0; n < q.states; n++) grad.db[t * q.row + n] = grad.dc[t * q.row + n] = 0;
  for (int64_t head = 0; head < q.heads; head++) {
    const int64_t at = head * q.headdim;
    mixing<true>(q, head, pairs);
    mix<true>(q.tokens, q.headdim, pairs.M, grad.dy + at, grad.dy_row, grad.dx + at, q.row, false);
    compare(q.tokens, q.headdim, grad.dy + at, grad.dy_row, q.x + at, q.row, pairs.transposed, pairs.dM);
    pair_gradients(q, head, pairs, grad);
    if (before || later)
      states_backward(q, head, pairs, grad, before ? before + head * size : nullptr, carry + head * size, later);
  }
  mix<false>(q.tokens, q.states, pairs.dG, q.b, q.row, grad.dc, q.row, true);
  mix<true>(q.tokens, q.states, pairs.dG, q.c, q.row, grad.db, q.row, true);
}
