// The embedding of songs, forward and backward, tile by tile: dropout, linear layer and sum of categories' rows, SiLU,
// dropout, linear layer. Rows of padding are left out.
#pragma once
#include "gemm.h"
#include "workspace.h"

constexpr int64_t EMBEDDING_TILE = 96;  // rows: their inputs and hidden numbers fit a core's cache

// Random bits are 16-bit numbers, one for each element: those below the threshold drop it, the others are scaled.
struct EmbeddingCall {
  int64_t known, rows, size, categories, hidden, width, threads;  // rows: of the known songs and then of the others
  const float *known_song, *song;                                 // (known, size), (rows - known, size)
  const int64_t *codes;                                           // (rows, categories): rows of `table`
  const int64_t *role;                                            // (known): below 0 at padding; null: there is none
  const int16_t *song_bits, *hidden_bits;                         // (rows, size), (rows, hidden); null: nothing dropped
  int64_t song_threshold, hidden_threshold;
  float song_scale, hidden_scale;
  const float *w_in, *b_in, *table;  // (hidden, size), (hidden), (codes of all categories, hidden)
  const float *w_out, *b_out;        // (width, hidden), (width)
  float *kept, *out;                 // (rows, hidden) before SiLU, null without backward; (rows, width), 0 at padding
  const float *dout;                 // (rows, width)
  float *sums;                       // (threads, EmbeddingSums::size)
  int64_t codes_of_all;              // rows of `table`
};

struct EmbeddingSums {  // one thread's gradients, in this order; w_in transposed
  float *w_in, *b_in, *table, *w_out, *b_out;
  EmbeddingSums(const EmbeddingCall &a, float *p) {
    w_in = p, b_in = w_in + a.size * a.hidden, table = b_in + a.hidden, w_out = table + a.codes_of_all * a.hidden;
    b_out = w_out + a.width * a.hidden;
  }
  static int64_t size(const EmbeddingCall &a) {
    return (a.size + 1 + a.codes_of_all + a.width) * a.hidden + a.width;
  }
};

INLINE void drop(int64_t count, const float *from, const int16_t *bits, int64_t threshold, float scale, float *to) {
  const int16_t least = (int16_t)threshold;
  if (!bits)
    memcpy(to, from, sizeof(float) * count);
  else
    for (int64_t i = 0; i < count; i++) to[i] = from[i] * (bits[i] >= least ? scale : 0.f);
}

// Call work(numbers of the rows of a tile, how many) for the rows from .. to that are songs.
template <typename Work>
static void for_songs(const EmbeddingCall &a, int64_t from, int64_t to, const Work &work) {
  int64_t rows[EMBEDDING_TILE], count = 0;
  for (int64_t i = from; i < to; i++) {
    if (a.role && i < a.known && a.role[i] < 0) continue;
    rows[count++] = i;
    if (count == EMBEDDING_TILE) work(rows, count), count = 0;
  }
  if (count) work(rows, count);
}

static void embedding_inputs(const EmbeddingCall &a, const int64_t *rows, int64_t count, float *x) {
  for (int64_t i = 0; i < count; i++) {
    const int64_t row = rows[i];
    const float *from = row < a.known ? a.known_song + row * a.size : a.song + (row - a.known) * a.size;
    drop(a.size, from, a.song_bits ? a.song_bits + row * a.size : nullptr, a.song_threshold, a.song_scale,
         x + i * a.size);
  }
}

extern "C" int popularity_embedding_forward(const EmbeddingCall *call) {
  const EmbeddingCall &a = *call;
  const int64_t h = a.hidden, out = round_up(a.width, CHANNELS);
  float *p = workspace.get(a.size * h + h * out + 4 * (16 + GAP));
  if (!p) return 1;
  float *w_in = take(p, a.size * h), *w_out = take(p, h * out);
  pack(w_in, a.size, h, a.w_in, 1, a.size);
  pack(w_out, h, a.width, a.w_out, 1, h);
  return share_out(a.rows, a.threads, [&](int64_t from, int64_t to, int64_t) {
    float *q = tiles.get(EMBEDDING_TILE * (a.size + h + out) + 4 * (16 + GAP));
    if (!q) return false;
    float *x = take(q, EMBEDDING_TILE * a.size), *hidden = take(q, EMBEDDING_TILE * h),
          *embedded = take(q, EMBEDDING_TILE * out);
    if (a.role && from < a.known)
      for (int64_t i = from; i < at_most(to, a.known); i++)
        if (a.role[i] < 0) memset(a.out + i * a.width, 0, sizeof(float) * a.width);
    for_songs(a, from, to, [&](const int64_t *rows, int64_t count) {
      embedding_inputs(a, rows, count, x);
      for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j < h; j += W) {
          vec sum = load(a.b_in + j);
          for (int64_t c = 0; c < a.categories; c++)
            sum += load(a.table + a.codes[rows[i] * a.categories + c] * h + j);
          store(hidden + i * h + j, sum);
        }
      product<false>(count, h, a.size, x, a.size, w_in, hidden, h, true);
      for (int64_t i = 0; i < count; i++) {
        float *row = hidden + i * h;
        if (a.kept) memcpy(a.kept + rows[i] * h, row, sizeof(float) * h);
        for (int64_t j = 0; j < h; j += W) {
          const vec v = load(row + j);
          store(row + j, v * sigmoid(v));
        }
        drop(h, row, a.hidden_bits ? a.hidden_bits + rows[i] * h : nullptr, a.hidden_threshold, a.hidden_scale, row);
        memset(embedded + i * out, 0, sizeof(float) * out);
        memcpy(embedded + i * out, a.b_out, sizeof(float) * a.width);
      }
      product<false>(count, a.width, h, hidden, h, w_out, embedded, out, true);
      for (int64_t i = 0; i < count; i++)
        memcpy(a.out + rows[i] * a.width, embedded + i * out, sizeof(float) * a.width);
    });
    return true;
  });
}

// dhidden, in place of the gradient of what the second layer reads; `read` is what it reads.
static void embedding_hidden_backward(const EmbeddingCall &a, int64_t row, float *read, float *dhidden) {
  const int64_t h = a.hidden;
  const float *kept = a.kept + row * h;
  const int16_t *bits = a.hidden_bits ? a.hidden_bits + row * h : nullptr;
  for (int64_t j = 0; j < h; j += W) {
    const vec v = load(kept + j), s = sigmoid(v);
    store(read + j, v * s);
    store(dhidden + j, load(dhidden + j) * (s * (1.f + v * (1.f - s))));
  }
  if (!bits) return;
  drop(h, read, bits, a.hidden_threshold, a.hidden_scale, read);
  drop(h, dhidden, bits, a.hidden_threshold, a.hidden_scale, dhidden);
}

extern "C" int popularity_embedding_backward(const EmbeddingCall *call) {
  const EmbeddingCall &a = *call;
  const int64_t h = a.hidden;
  float *w_out = workspace.get(a.width * h);
  if (!w_out) return 1;
  pack(w_out, a.width, h, a.w_out, h, 1);
  return share_out(a.rows, a.threads, [&](int64_t from, int64_t to, int64_t thread) {
    float *q = tiles.get(EMBEDDING_TILE * (a.size + 3 * h + a.width) + 8 * (16 + GAP));
    if (!q) return false;
    float *x = take(q, EMBEDDING_TILE * a.size), *read = take(q, EMBEDDING_TILE * h),
          *dhidden = take(q, EMBEDDING_TILE * h), *packed = take(q, EMBEDDING_TILE * h),
          *dout = take(q, EMBEDDING_TILE * a.width);
    const EmbeddingSums sums(a, a.sums + thread * EmbeddingSums::size(a));
    for_songs(a, from, to, [&](const int64_t *rows, int64_t count) {
      embedding_inputs(a, rows, count, x);
      for (int64_t i = 0; i < count; i++) {
        memcpy(dout + i * a.width, a.dout + rows[i] * a.width, sizeof(float) * a.width);
        for (int64_t j = 0; j < a.width; j++) sums.b_out[j] += dout[i * a.width + j];
      }
      product<false>(count, h, a.width, dout, a.width, w_out, dhidden, h, false);
      for (int64_t i = 0; i < count; i++) {
        float *row = dhidden + i * h;
        embedding_hidden_backward(a, rows[i], read + i * h, row);
        for (int64_t j = 0; j < h; j += W) {
          const vec g = load(row + j);
          store(sums.b_in + j, load(sums.b_in + j) + g);
          for (int64_t c = 0; c < a.categories; c++) {
            float *to_table = sums.table + a.codes[rows[i] * a.categories + c] * h + j;
            store(to_table, load(to_table) + g);
          }
        }
      }
      add_outer(a.width, h, count, dout, a.width, read, h, packed, sums.w_out);
      add_outer(a.size, h, count, x, a.size, dhidden, h, packed, sums.w_in);
    });
    return true;
  });
}
