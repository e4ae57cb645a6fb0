// The scan of Mamba-2 over the tokens of one chunk as matrix products: the dual form of Dao & Gu (2024), section 5.
//
// With E[t][s] the product of the decays of the tokens s + 1 .. t, and G[t][s] = C[t] . B[s], a head computes
//
//     y[t] = sum over s <= t of M[t][s] x[s],   M[t][s] = G[t][s] E[t][s] dt[s],   and D more on M's diagonal.
//
// Matrices over pairs of tokens have rows of CHUNK numbers, zero above the diagonal, with the tokens s in the vectors'
// lanes. A row of E comes from the one before it by one multiplication, so that the tokens' decays are the only
// exponentials.
#pragma once
#include "gemm.h"
#include "workspace.h"

constexpr int64_t CHUNK = 32;  // most tokens of a chunk

static const float LANE[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
INLINE vec lane_numbers(int64_t first) { return load(LANE) + (float)first; }
INLINE int64_t vectors_of(int64_t tokens) { return (tokens + W - 1) / W; }

struct Chunk {
  int64_t tokens, heads, headdim, states;  // headdim and states in multiples of CHANNELS
  const float *x, *b, *c;                  // (heads * headdim), (states), (states) of the first token
  int64_t row;                             // from token to token in the three above
  const float *dt, *decay;                 // (tokens, step_row): step sizes and exp(dt * A)
  int64_t step_row;
  const float *D;  // (heads)
};

// Memory for one chunk at a time.
struct Pairs {
  float *G, *M, *E_dt, *G_E, *dM, *dG;  // (CHUNK, CHUNK) each; from E_dt on in the backward pass alone
  float *transposed;                    // of tokens (headdim or states, CHUNK), or of states (headdim, states)
  float *scaled;                        // (CHUNK, states)
  static int64_t transposed_size(int64_t headdim, int64_t states) {
    const int64_t tokens = (headdim > states ? headdim : states) * CHUNK;
    return tokens > headdim * states ? tokens : headdim * states;
  }
  static int64_t size(int64_t headdim, int64_t states) {
    return 6 * CHUNK * CHUNK + transposed_size(headdim, states) + CHUNK * states + 8 * (16 + GAP);
  }
  Pairs(float *p, int64_t headdim, int64_t states) {
    G = take(p, CHUNK * CHUNK), M = take(p, CHUNK * CHUNK), E_dt = take(p, CHUNK * CHUNK);
    G_E = take(p, CHUNK * CHUNK), dM = take(p, CHUNK * CHUNK), dG = take(p, CHUNK * CHUNK);
    transposed = take(p, transposed_size(headdim, states)), scaled = take(p, CHUNK * states);
  }
};

// out[t][s] = a[t] . b[s] at and below the diagonal, and what else is in those vectors; rows of `depth` numbers
static void compare(int64_t tokens, int64_t depth, const float *a, int64_t a_row, const float *b, int64_t b_row,
                    float *transposed, float *out) {
  for (int64_t v = 0; v < tokens; v += W) {  // one panel of W tokens of b
    const int64_t real = at_most(tokens - v, W);
    for (int64_t s = 0; s < real; s++)
      for (int64_t k = 0; k < depth; k++) transposed[k * W + s] = b[(v + s) * b_row + k];
    for (int64_t s = real; s < W; s++)
      for (int64_t k = 0; k < depth; k++) transposed[k * W + s] = 0;
    product_vectors<false>(1, tokens - v, depth, a + v * a_row, a_row, transposed, W, out + v * CHUNK + v, CHUNK,
                           false);
  }
}

// out[t] = sum over s <= t of m[t][s] x[s], or with TRANSPOSED the sum over s >= t of m[s][t] x[s];
// or += with add
template <bool TRANSPOSED>
static void mix(int64_t tokens, int64_t columns, const float *m, const float *x, int64_t x_row, float *out,
                int64_t out_row, bool add) {
  for (int64_t j = 0; j < columns; j += PANEL * W) {
    const int64_t vectors = at_most(columns - j, PANEL * W) / W;
    for (int64_t t = 0; t < tokens; t += ROWS) {
      const int64_t rows = at_most(tokens - t, ROWS);
      if (TRANSPOSED)
        product_vectors<true>(vectors, rows, tokens - t, m + t * CHUNK + t, CHUNK, x + t * x_row + j, x_row,
                              out + t * out_row + j, out_row, add);
      else
        product_vectors<false>(vectors, rows, t + rows, m + t * CHUNK, CHUNK, x + j, x_row, out + t * out_row + j,
                               out_row, add);
    }
  }
}

// M of a head, and for the backward pass E dt and G E. All rows are written in whole.
template <bool BACKWARD>
INLINE void mixing(const Chunk &q, int64_t head, const Pairs &pairs) {
  const int64_t tokens = q.tokens;
  const float D = q.D[head];
  float dt[CHUNK] = {};
  for (int64_t s = 0; s < tokens; s++) dt[s] = q.dt[s * q.step_row + head];
  for (int64_t v = 0; v < vectors_of(tokens) * W; v += W) {
    const vec steps = load(dt + v), lane = lane_numbers(v);
    vec e = {};
    for (int64_t t = 0; t < tokens; t++) {
      const int64_t at = t * CHUNK + v;
      const auto here = lane == (float)t;
      e = here ? splat(1.f) : e * q.decay[t * q.step_row + head];
      // what lies above the diagonal of G was not written where its vector is all above it
      const vec g = t < v ? vec{} : load(pairs.G + at), e_dt = e * steps;
      const vec m = g * e_dt;
      store(pairs.M + at, here ? m + D : m);
      if (BACKWARD) {
        store(pairs.E_dt + at, e_dt);
        store(pairs.G_E + at, g * e);
      }
    }
  }
}

struct ChunkGradients {
  const float *dy;
  int64_t dy_row;
  float *dx, *db, *dc;  // rows as far apart as those of x, b and c
  float *ddt, *dlog;    // rows as those of dt: of dt as a factor of M, and of the decays' logarithms
  float *dD;            // (heads), added to
};

// Gradients of dt and of the logarithms of the decays, and dG, of one head from dM. The logarithm of token r's decay is
// in E[t][s] for all s < r <= t, so its gradient is the sum of dM M over that rectangle: K holds the sums over t.
INLINE void pair_gradients(const Chunk &q, int64_t head, const Pairs &pairs, const ChunkGradients &grad) {
  const int64_t tokens = q.tokens;
  float K[CHUNK * W] __attribute__((aligned(64))), ddt[CHUNK], dlog[CHUNK], dt[CHUNK] = {};
  for (int64_t s = 0; s < tokens; s++) dt[s] = q.dt[s * q.step_row + head];
  for (int64_t t = 0; t < tokens; t++) store(K + t * W, vec{});
  for (int64_t v = 0; v < tokens; v += W) {
    const vec steps = load(dt + v), lane = lane_numbers(v);
    vec below = {}, by_step = {};
    for (int64_t t = tokens - 1; t >= v; t--) {
      const int64_t at = t * CHUNK + v;
      const vec dm = load(pairs.dM + at), change = dm * load(pairs.G_E + at);
      store(pairs.dG + at, load(pairs.dG + at) + dm * load(pairs.E_dt + at));
      by_step += change;
      below += change * steps;
      store(K + t * W, load(K + t * W) + (lane < (float)t ? below : vec{}));
    }
    store(ddt + v, by_step);
  }
  sum_lanes_of(K, tokens, dlog);
  float dD = 0;
  for (int64_t t = 0; t < tokens; t++) {
    grad.ddt[t * q.step_row + head] = ddt[t];
    grad.dlog[t * q.step_row + head] = dlog[t];
    dD += pairs.dM[t * CHUNK + t];
  }
  grad.dD[head] += dD;
}
