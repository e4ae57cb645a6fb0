// The backward pass of the selective scan: gradients of everything that scan.h reads.
#pragma once
#include "scan.h"
#include "workspace.h"

struct StretchGradients {
  const float *dy;
  float *x, *delta, *z, *b, *c;
  float *y;  // the scan's gated result, recomputed; may be null
  int64_t dy_row, x_row, delta_row, z_row, b_row, c_row, y_row;
  float *A, *D, *bias;  // sums, added to
};

struct Scratch {  // one thread's, see scratch_size
  float *steps, *sigmoids, *history, *sums_b, *sums_c, *starts;
};

// By token and vector of channels: delta, delta x, dy, y before the gate, gradients of delta x and of delta.
enum { STEP = 6 };

INLINE int64_t scratch_size(int64_t channels, int64_t states, int64_t interval) {
  return SEGMENT * LANES * W * (STEP + 2) + (2 * SEGMENT + 1) * BACKWARD_STATES * W + 2 * SEGMENT * states * W +
         (interval / SEGMENT - 1) * states * channels + 6 * 16;
}
INLINE Scratch scratch_in(float *p, int64_t channels, int64_t states, int64_t interval) {
  Scratch s;
  s.steps = take(p, SEGMENT * LANES * W * STEP);
  s.sigmoids = take(p, SEGMENT * LANES * W * 2);
  s.history = take(p, (2 * SEGMENT + 1) * BACKWARD_STATES * W);  // the states before, then decays and states by token
  s.sums_b = take(p, SEGMENT * states * W);
  s.sums_c = take(p, SEGMENT * states * W);
  s.starts = take(p, (interval / SEGMENT - 1) * states * channels);
  return s;
}

// States n0 .. n0 + NB of ND vectors of channels: forwards through the segment, then backwards.
template <int ND, int NB>
INLINE void reverse(const Stretch &s, int64_t t0, int64_t tokens, int64_t d, int64_t n0, const float *start,
                    float *carry, float *dA, const Scratch &scratch) {
  enum { BLOCK = NB * ND * W };
  const int64_t channels = s.channels, states = s.states, b_row = s.b_row, c_row = s.c_row, at = n0 * channels + d;
  const float *A = s.A + at, *b = s.b + t0 * b_row + n0, *c = s.c + t0 * c_row + n0;
  float *history = scratch.history, *steps = scratch.steps;
  vec h[NB][ND];
  UNROLL for (int n = 0; n < NB; n++) UNROLL for (int k = 0; k < ND; k++) {
    h[n][k] = start ? load(start + at + n * channels + k * W) : vec{};
    store(history + (n * ND + k) * W, h[n][k]);
  }
  history += BLOCK;
  for (int64_t t = 0; t < tokens; t++, b += b_row, c += c_row, history += 2 * BLOCK, steps += ND * STEP * W) {
    vec dt[ND], dtx[ND], y[ND];
    UNROLL for (int k = 0; k < ND; k++) {
      const float *p = steps + k * STEP * W;
      dt[k] = load(p) * LOG2E, dtx[k] = load(p + W), y[k] = load(p + 3 * W);
    }
    enum { G = NB * ND < GROUP ? NB * ND : GROUP };
    UNROLL for (int n = 0; n < NB; n += G / ND) {
      vec decay[G];
      UNROLL for (int i = 0; i < G; i++) decay[i] = dt[i % ND] * load(A + (n + i / ND) * channels + i % ND * W);
      exp2_all<G>(decay);
      UNROLL for (int i = 0; i < G; i++) {
        vec &state = h[n + i / ND][i % ND];
        state = decay[i] * state + dtx[i % ND] * b[n + i / ND];
        y[i % ND] += state * c[n + i / ND];
        store(history + (n * ND + i) * W, decay[i]);
        store(history + BLOCK + (n * ND + i) * W, state);
      }
    }
    UNROLL for (int k = 0; k < ND; k++) store(steps + (k * STEP + 3) * W, y[k]);
  }
  carry += at, dA += at;
  vec g[NB][ND], gA[NB][ND];
  UNROLL for (int n = 0; n < NB; n++) UNROLL for (int k = 0; k < ND; k++) {
    g[n][k] = load(carry + n * channels + k * W);
    gA[n][k] = load(dA + n * channels + k * W);
  }
  float *sums_b = scratch.sums_b + (tokens * states + n0) * W, *sums_c = scratch.sums_c + (tokens * states + n0) * W;
  for (int64_t t = tokens - 1; t >= 0; t--) {
    b -= b_row, c -= c_row, history -= 2 * BLOCK, steps -= ND * STEP * W, sums_b -= states * W, sums_c -= states * W;
    vec dt[ND], dtx[ND], dy[ND], ddtx[ND], ddt[ND];
    UNROLL for (int k = 0; k < ND; k++) {
      const float *p = steps + k * STEP * W;
      dt[k] = load(p), dtx[k] = load(p + W), dy[k] = load(p + 2 * W), ddtx[k] = load(p + 4 * W),
      ddt[k] = load(p + 5 * W);
    }
    UNROLL for (int n = 0; n < NB; n++) {
      vec sum_b = load(sums_b + n * W), sum_c = load(sums_c + n * W);
      UNROLL for (int k = 0; k < ND; k++) {
        const float *p = history + (n * ND + k) * W;
        const vec grad = g[n][k] + dy[k] * c[n];
        sum_c += dy[k] * load(p + BLOCK);
        sum_b += grad * dtx[k];
        ddtx[k] += grad * b[n];
        g[n][k] = grad * load(p);
        const vec gd = g[n][k] * load(p - BLOCK);
        ddt[k] += gd * load(A + n * channels + k * W);
        gA[n][k] += gd * dt[k];
      }
      store(sums_b + n * W, sum_b);
      store(sums_c + n * W, sum_c);
    }
    UNROLL for (int k = 0; k < ND; k++) store(steps + (k * STEP + 4) * W, ddtx[k]),
        store(steps + (k * STEP + 5) * W, ddt[k]);
  }
  UNROLL for (int n = 0; n < NB; n++) UNROLL for (int k = 0; k < ND; k++) {
    store(carry + n * channels + k * W, g[n][k]);
    store(dA + n * channels + k * W, gA[n][k]);
  }
}

template <int ND>
static void backward_channels(const Stretch &s, const StretchGradients &grad, int64_t t0, int64_t tokens, int64_t d,
                              const float *start, float *carry, const Scratch &scratch) {
  for (int64_t t = 0; t < tokens; t++) UNROLL for (int k = 0; k < ND; k++) {
      const int64_t channel = d + k * W;
      float *p = scratch.steps + (t * ND + k) * STEP * W, *sigmoids = scratch.sigmoids + (t * ND + k) * 2 * W;
      vec derivative;
      const vec dt = step_size(s, t0 + t, channel, &derivative), x = load(s.x + (t0 + t) * s.x_row + channel);
      vec dy = load(grad.dy + (t0 + t) * grad.dy_row + channel);
      if (s.z) {
        const vec z = load(s.z + (t0 + t) * s.z_row + channel), gate = sigmoid(z);
        store(sigmoids + W, gate);
        dy = dy * z * gate;
      }
      store(sigmoids, derivative);
      store(p, dt);
      store(p + W, dt * x);
      store(p + 2 * W, dy);
      store(p + 3 * W, load(s.D + channel) * x);
      store(p + 4 * W, vec{});
      store(p + 5 * W, vec{});
    }
  enum { NB = BACKWARD_STATES / ND };
  int64_t n = 0;
  for (; n + NB <= s.states; n += NB) reverse<ND, NB>(s, t0, tokens, d, n, start, carry, grad.A, scratch);
  for (; n < s.states; n++) reverse<ND, 1>(s, t0, tokens, d, n, start, carry, grad.A, scratch);
  UNROLL for (int k = 0; k < ND; k++) {
    const int64_t channel = d + k * W;
    vec dD = load(grad.D + channel), dbias = load(grad.bias + channel);
    const vec D = load(s.D + channel);
    for (int64_t t = 0; t < tokens; t++) {
      const float *p = scratch.steps + (t * ND + k) * STEP * W, *sigmoids = scratch.sigmoids + (t * ND + k) * 2 * W;
      const vec x = load(s.x + (t0 + t) * s.x_row + channel), dt = load(p), dy = load(p + 2 * W), y = load(p + 3 * W),
                ddtx = load(p + 4 * W);
      const vec ddelta = (load(p + 5 * W) + ddtx * x) * load(sigmoids);
      if (s.z) {
        const vec z = load(s.z + (t0 + t) * s.z_row + channel), gate = load(sigmoids + W);
        const vec dout = load(grad.dy + (t0 + t) * grad.dy_row + channel);
        store(grad.z + (t0 + t) * grad.z_row + channel, dout * y * gate * (1.f + z * (1.f - gate)));
        if (grad.y) store(grad.y + (t0 + t) * grad.y_row + channel, y * z * gate);
      }
      store(grad.x + (t0 + t) * grad.x_row + channel, dy * D + ddtx * dt);
      store(grad.delta + (t0 + t) * grad.delta_row + channel, ddelta);
      dD += dy * x;
      dbias += ddelta;
    }
    store(grad.D + channel, dD);
    store(grad.bias + channel, dbias);
  }
}

static void backward_segment(const Stretch &s, const StretchGradients &grad, int64_t t0, int64_t tokens,
                             const float *start, float *carry, const Scratch &scratch) {
  memset(scratch.sums_b, 0, sizeof(float) * tokens * s.states * W);
  memset(scratch.sums_c, 0, sizeof(float) * tokens * s.states * W);
  int64_t d = 0;
  for (; d + LANES * W <= s.channels; d += LANES * W)
    backward_channels<LANES>(s, grad, t0, tokens, d, start, carry, scratch);
  for (; d < s.channels; d += W) backward_channels<1>(s, grad, t0, tokens, d, start, carry, scratch);
  for (int64_t t = 0; t < tokens; t++) {
    sum_lanes_of(scratch.sums_b + t * s.states * W, s.states, grad.b + (t0 + t) * grad.b_row);
    sum_lanes_of(scratch.sums_c + t * s.states * W, s.states, grad.c + (t0 + t) * grad.c_row);
  }
}

// carry: (states, channels), the gradient of the states after the last token; afterwards of those before the first.
static void scan_backward(const Stretch &s, const StretchGradients &grad, const Kept &kept, float *carry,
                          const Scratch &scratch) {
  const int64_t size = s.states * s.channels;
  for (int64_t from = (s.tokens - 1) / kept.interval * kept.interval; from >= 0; from -= kept.interval) {
    const int64_t tokens = at_most(s.tokens - from, kept.interval);
    const float *start = kept.first + from ? kept_at(kept, s, kept.first + from) : nullptr;
    const int64_t segments = (tokens + SEGMENT - 1) / SEGMENT;
    for (int64_t i = 1; i < segments; i++) {  // states at the starts of the interval's later segments
      float *states = scratch.starts + (i - 1) * size;
      const float *previous = i > 1 ? states - size : start;
      if (previous)
        memcpy(states, previous, sizeof(float) * size);
      else
        memset(states, 0, sizeof(float) * size);
      int64_t d = 0;
      for (; d + LANES * W <= s.channels; d += LANES * W)
        forward_segment<LANES, false>(s, from + (i - 1) * SEGMENT, SEGMENT, d, states, nullptr, 0);
      for (; d < s.channels; d += W)
        forward_segment<1, false>(s, from + (i - 1) * SEGMENT, SEGMENT, d, states, nullptr, 0);
    }
    for (int64_t i = segments - 1; i >= 0; i--) {
      const int64_t t0 = from + i * SEGMENT;
      backward_segment(s, grad, t0, at_most(from + tokens - t0, SEGMENT), i ? scratch.starts + (i - 1) * size : start,
                       carry, scratch);
    }
  }
}
