// The selective scan over consecutive tokens of one sequence: what both passes share, and the forward pass.
//
// Channels lie in the vectors' lanes and states in registers; tokens go in segments of SEGMENT, in three phases:
// softplus, recurrence, gate. The backward pass recomputes the states of a segment from those at its start. Channels
// come in multiples of 16, so that every row holds whole vectors.
#pragma once
#include "simd.h"

constexpr int64_t SEGMENT = 16, STATES_MAX = 64;

enum {
  LANES = W == 16 ? 2 : 1,              // vectors of channels taken together at most
  FORWARD_STATES = (W == 16 ? 16 : 8),  // vectors of states in registers
  BACKWARD_STATES = (W == 16 ? 8 : 4),
  GROUP = 4,  // vectors whose operations are interleaved
};

struct Stretch {  // tokens of one sequence: pointers to the first token, strides from token to token
  int64_t tokens, channels, states;
  const float *x, *delta, *z, *b, *c;  // delta before bias and softplus; z may be null
  int64_t x_row, delta_row, z_row, b_row, c_row;
  const float *A, *D, *bias;  // (states, channels), (channels), (channels)
  bool softplus;
};

// States kept for the backward pass: before every token whose number is a positive multiple of `interval`.
struct Kept {
  float *states;            // may be null
  int64_t interval, first;  // first: the number of the stretch's first token, a multiple of the interval
};

INLINE Kept kept_of(float *kept, int64_t sequence, int64_t length, int64_t interval, int64_t size, int64_t first) {
  return {kept ? kept + sequence * ((length - 1) / interval) * size : nullptr, interval, first};
}
INLINE float *kept_at(const Kept &kept, const Stretch &s, int64_t token) {
  return kept.states + (token / kept.interval - 1) * s.states * s.channels;
}

INLINE vec step_size(const Stretch &s, int64_t t, int64_t d, vec *derivative) {
  const vec raw = load(s.delta + t * s.delta_row + d) + load(s.bias + d);
  if (s.softplus) return softplus(raw, derivative);
  if (derivative) *derivative = splat(1.f);
  return raw;
}

// States n0 .. n0 + NB of ND vectors of channels through a segment. steps: delta * log2(e) and delta * x by token.
template <int ND, int NB, bool OUTPUT>
INLINE void advance(const Stretch &s, int64_t t0, int64_t tokens, int64_t d, int64_t n0, const float *steps, float *y,
                    float *states) {
  const int64_t channels = s.channels, b_row = s.b_row, c_row = s.c_row;  // in registers: the stores might alias s
  const float *A = s.A + n0 * channels + d, *b = s.b + t0 * b_row + n0, *c = s.c + t0 * c_row + n0;
  states += n0 * channels + d;
  vec h[NB * ND];
  UNROLL for (int n = 0; n < NB; n++) UNROLL for (int k = 0; k < ND; k++) h[n * ND + k] =
      load(states + n * channels + k * W);
  for (int64_t t = 0; t < tokens; t++, b += b_row, c += c_row) {
    vec dt[ND], dtx[ND], out[ND];
    UNROLL for (int k = 0; k < ND; k++) {
      dt[k] = load(steps + (t * ND + k) * 2 * W);
      dtx[k] = load(steps + (t * ND + k) * 2 * W + W);
      if (OUTPUT) out[k] = load(y + (t * ND + k) * W);
    }
    enum { G = NB * ND < GROUP ? NB * ND : GROUP };
    UNROLL for (int n = 0; n < NB; n += G / ND) {
      vec x[G], add[G];
      UNROLL for (int i = 0; i < G; i++) x[i] = dt[i % ND] * load(A + (n + i / ND) * channels + i % ND * W);
      UNROLL for (int i = 0; i < G; i++) add[i] = dtx[i % ND] * b[n + i / ND];
      decay_and_add<G>(x, h + n * ND, add);
      if (OUTPUT) UNROLL for (int i = 0; i < G; i++) out[i % ND] += h[n * ND + i] * c[n + i / ND];
    }
    if (OUTPUT) UNROLL for (int k = 0; k < ND; k++) store(y + (t * ND + k) * W, out[k]);
  }
  UNROLL for (int n = 0; n < NB; n++) UNROLL for (int k = 0; k < ND; k++)
      store(states + n * channels + k * W, h[n * ND + k]);
}

template <int ND, bool OUTPUT>
INLINE void forward_segment(const Stretch &s, int64_t t0, int64_t tokens, int64_t d, float *states, float *y,
                            int64_t y_row) {
  float steps[SEGMENT * 2 * ND * W] __attribute__((aligned(64))), out[SEGMENT * ND * W] __attribute__((aligned(64)));
  for (int64_t t = 0; t < tokens; t++) UNROLL for (int k = 0; k < ND; k++) {
      const int64_t channel = d + k * W;
      const vec x = load(s.x + (t0 + t) * s.x_row + channel), dt = step_size(s, t0 + t, channel, nullptr);
      store(steps + (t * ND + k) * 2 * W, dt * LOG2E);
      store(steps + (t * ND + k) * 2 * W + W, dt * x);
      if (OUTPUT) store(out + (t * ND + k) * W, x * load(s.D + channel));
    }
  enum { NB = FORWARD_STATES / ND };
  int64_t n = 0;
  for (; n + NB <= s.states; n += NB) advance<ND, NB, OUTPUT>(s, t0, tokens, d, n, steps, out, states);
  for (; n + 4 <= s.states; n += 4) advance<ND, 4, OUTPUT>(s, t0, tokens, d, n, steps, out, states);
  for (; n < s.states; n++) advance<ND, 1, OUTPUT>(s, t0, tokens, d, n, steps, out, states);
  if (OUTPUT)
    for (int64_t t = 0; t < tokens; t++) UNROLL for (int k = 0; k < ND; k++) {
        vec v = load(out + (t * ND + k) * W);
        if (s.z) {
          const vec z = load(s.z + (t0 + t) * s.z_row + d + k * W);
          v = v * z * sigmoid(z);
        }
        store(y + (t0 + t) * y_row + d + k * W, v);
      }
}

template <int ND>
static void forward_channels(const Stretch &s, int64_t d, float *states, const Kept &kept, float *y, int64_t y_row) {
  for (int64_t t0 = 0; t0 < s.tokens; t0 += SEGMENT) {
    const int64_t token = kept.first + t0;
    if (kept.states && token && token % kept.interval == 0)
      for (int64_t n = 0; n < s.states; n++)
        memcpy(kept_at(kept, s, token) + n * s.channels + d, states + n * s.channels + d, sizeof(float) * ND * W);
    forward_segment<ND, true>(s, t0, at_most(s.tokens - t0, SEGMENT), d, states, y, y_row);
  }
}

// states: (states, channels), those before the first token; afterwards those after the last.
static void scan_forward(const Stretch &s, float *states, const Kept &kept, float *y, int64_t y_row) {
  int64_t d = 0;
  for (; d + LANES * W <= s.channels; d += LANES * W) forward_channels<LANES>(s, d, states, kept, y, y_row);
  for (; d < s.channels; d += W) forward_channels<1>(s, d, states, kept, y, y_row);
}
