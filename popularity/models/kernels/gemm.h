// Small matrix products on rows that lie in the cache: what the block's projections need between two scans.
#pragma once
#include "simd.h"

enum { ROWS = W == 4 ? 4 : 6, PANEL = W == 16 ? 4 : 2 };  // of the result held in registers: ROWS x PANEL vectors

// Copy a matrix (depth x columns), element (k, j) at source[k * sk + j * sj], into panels of PANEL * W columns, each
// contiguous, the columns padded with zeros to a multiple of CHANNELS. Size: depth * round_up(columns, CHANNELS).
static void pack(float *to, int64_t depth, int64_t columns, const float *source, int64_t sk, int64_t sj) {
  const int64_t padded = round_up(columns, CHANNELS);
  for (int64_t j0 = 0; j0 < padded; j0 += PANEL * W) {
    const int64_t width = at_most(padded - j0, PANEL * W);
    const int64_t real = j0 < columns ? at_most(columns - j0, width) : 0;  // 0: a panel of padding alone, where W is 4
    float *panel = to + j0 * depth;
    if (sj == 1)
      for (int64_t k = 0; k < depth; k++) {
        memcpy(panel + k * width, source + k * sk + j0, sizeof(float) * real);
        for (int64_t j = real; j < width; j++) panel[k * width + j] = 0;
      }
    else
      for (int64_t j = 0; j < width; j++)
        for (int64_t k = 0; k < depth; k++) panel[k * width + j] = j < real ? source[k * sk + (j0 + j) * sj] : 0;
  }
}

template <int M, int N, bool TRANSPOSED>
static void product_block(int64_t depth, const float *a, int64_t lda, const float *b, int64_t ldb, float *c,
                          int64_t ldc, bool add) {
  vec sum[M][N];
  UNROLL for (int i = 0; i < M; i++) UNROLL for (int j = 0; j < N; j++) sum[i][j] =
      add ? load(c + i * ldc + j * W) : vec{};
  for (int64_t k = 0; k < depth; k++) {
    vec row[N];
    UNROLL for (int j = 0; j < N; j++) row[j] = load(b + k * ldb + j * W);
    UNROLL for (int i = 0; i < M; i++) {
      const vec s = splat(TRANSPOSED ? a[k * lda + i] : a[i * lda + k]);
      UNROLL for (int j = 0; j < N; j++) sum[i][j] += s * row[j];
    }
  }
  UNROLL for (int i = 0; i < M; i++) UNROLL for (int j = 0; j < N; j++) store(c + i * ldc + j * W, sum[i][j]);
}

template <int N, bool TRANSPOSED>
static void product_panel(int64_t rows, int64_t depth, const float *a, int64_t lda, const float *b, int64_t ldb,
                          float *c, int64_t ldc, bool add) {
  const int64_t step = TRANSPOSED ? 1 : lda;
  int64_t i = 0;
  for (; i + ROWS <= rows; i += ROWS)
    product_block<ROWS, N, TRANSPOSED>(depth, a + i * step, lda, b, ldb, c + i * ldc, ldc, add);
  a += i * step;
  c += i * ldc;
  switch (rows - i) {
    case 5: return product_block<5, N, TRANSPOSED>(depth, a, lda, b, ldb, c, ldc, add);
    case 4: return product_block<4, N, TRANSPOSED>(depth, a, lda, b, ldb, c, ldc, add);
    case 3: return product_block<3, N, TRANSPOSED>(depth, a, lda, b, ldb, c, ldc, add);
    case 2: return product_block<2, N, TRANSPOSED>(depth, a, lda, b, ldb, c, ldc, add);
    case 1: return product_block<1, N, TRANSPOSED>(depth, a, lda, b, ldb, c, ldc, add);
  }
}

// c (rows x whole vectors, at most PANEL of them) = a b, or += with add. a is (rows x depth) with row stride lda, or
// with TRANSPOSED (depth x rows); the rows of b lie ldb apart.
template <bool TRANSPOSED>
static void product_vectors(int64_t vectors, int64_t rows, int64_t depth, const float *a, int64_t lda, const float *b,
                            int64_t ldb, float *c, int64_t ldc, bool add) {
  switch (vectors) {
    case 1: return product_panel<1, TRANSPOSED>(rows, depth, a, lda, b, ldb, c, ldc, add);
#if W == 16
    case 2: return product_panel<2, TRANSPOSED>(rows, depth, a, lda, b, ldb, c, ldc, add);
    case 3: return product_panel<3, TRANSPOSED>(rows, depth, a, lda, b, ldb, c, ldc, add);
#endif
    default: return product_panel<PANEL, TRANSPOSED>(rows, depth, a, lda, b, ldb, c, ldc, add);
  }
}

// The same for any number of columns, with b packed; c has whole vectors: columns rounded up to CHANNELS.
template <bool TRANSPOSED>
static void product(int64_t rows, int64_t columns, int64_t depth, const float *a, int64_t lda, const float *b, float *c,
                    int64_t ldc, bool add) {
  const int64_t vectors = round_up(columns, CHANNELS) / W;
  for (int64_t v = 0; v < vectors; v += PANEL, b += depth * PANEL * W, c += PANEL * W) {
    const int64_t count = at_most(vectors - v, PANEL);
    product_vectors<TRANSPOSED>(count, rows, depth, a, lda, b, count * W, c, ldc, add);
  }
}

// c (rows x width of c) += a^T b, with b packed into `packed` first
INLINE void add_outer(int64_t a_columns, int64_t b_columns, int64_t rows, const float *a, int64_t lda, const float *b,
                      int64_t ldb, float *packed, float *c) {
  pack(packed, rows, b_columns, b, ldb, 1);
  product<true>(a_columns, b_columns, rows, a, lda, packed, c, b_columns, true);
}
