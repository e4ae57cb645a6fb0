// Causal depthwise convolution over consecutive tokens of one sequence, followed by SiLU.
#pragma once
#include "simd.h"

constexpr int64_t TAPS_MAX = 8;

struct Conv {
  int64_t tokens, first, channels;  // first: the number of the first token in its sequence
  const float *x;                   // the first token; earlier ones of the sequence lie before it
  int64_t x_row;
  const float *weight, *bias;  // (taps, channels), the last for the current token; (channels)
};

template <int TAPS>
INLINE void start_window(const Conv &c, int64_t d, vec *window) {  // the tokens before the first, from window[1] on
  UNROLL for (int k = 1; k < TAPS; k++) {
    const int64_t t = k - TAPS;
    window[k] = c.first + t >= 0 ? load(c.x + t * c.x_row + d) : vec{};
  }
}

// out = SiLU(conv(x)); slope: the derivative of SiLU there, unless null. Rows of both: `channels` apart.
template <int TAPS>
static void conv_forward(const Conv &c, float *out, float *slope) {
  for (int64_t d = 0; d < c.channels; d += W) {
    vec weight[TAPS], window[TAPS];
    UNROLL for (int k = 0; k < TAPS; k++) weight[k] = load(c.weight + k * c.channels + d);
    const vec bias = load(c.bias + d);
    start_window<TAPS>(c, d, window);
    for (int64_t t = 0; t < c.tokens; t++) {
      UNROLL for (int k = 0; k + 1 < TAPS; k++) window[k] = window[k + 1];
      window[TAPS - 1] = load(c.x + t * c.x_row + d);
      vec sum = bias;
      UNROLL for (int k = 0; k < TAPS; k++) sum += weight[k] * window[k];
      const vec gate = sigmoid(sum);
      store(out + t * c.channels + d, sum * gate);
      if (slope) store(slope + t * c.channels + d, gate * (1.f + sum * (1.f - gate)));
    }
  }
}

// dout and slope: rows `channels` apart. later: (taps - 1, channels), gradients before SiLU of the tokens after the
// last; afterwards those of this stretch's first tokens. dweight, dbias: added to.
template <int TAPS>
static void conv_backward(const Conv &c, const float *dout, const float *slope, float *dx, int64_t dx_row, float *later,
                          float *dweight, float *dbias) {
  for (int64_t d = 0; d < c.channels; d += W) {
    vec weight[TAPS], window[TAPS], grads[TAPS], dw[TAPS], head[TAPS];
    UNROLL for (int k = 0; k < TAPS; k++) {
      weight[k] = load(c.weight + k * c.channels + d);
      dw[k] = load(dweight + k * c.channels + d);
      grads[k] = head[k] = vec{};
    }
    vec db = load(dbias + d);
    start_window<TAPS>(c, d, window);
    for (int64_t t = 0; t < c.tokens + TAPS - 1; t++) {
      UNROLL for (int k = 0; k + 1 < TAPS; k++) window[k] = window[k + 1], grads[k] = grads[k + 1];
      vec g;
      if (t < c.tokens) {
        g = load(dout + t * c.channels + d) * load(slope + t * c.channels + d);
        window[TAPS - 1] = load(c.x + t * c.x_row + d);
        UNROLL for (int k = 0; k < TAPS; k++) dw[k] += g * window[k];
        db += g;
      } else {
        g = load(later + (t - c.tokens) * c.channels + d);
      }
      grads[TAPS - 1] = g;
      if (t == TAPS - 2) UNROLL for (int k = 0; k + 1 < TAPS; k++) head[k] = grads[k + 1];
      if (t >= TAPS - 1) {
        vec sum = weight[TAPS - 1] * grads[0];
        UNROLL for (int k = 1; k < TAPS; k++) sum += weight[TAPS - 1 - k] * grads[k];
        store(dx + (t - TAPS + 1) * dx_row + d, sum);
      }
    }
    UNROLL for (int k = 0; k + 1 < TAPS; k++) store(later + k * c.channels + d, head[k]);
    UNROLL for (int k = 0; k < TAPS; k++) store(dweight + k * c.channels + d, dw[k]);
    store(dbias + d, db);
  }
}

// clang-format off
#define FOR_TAPS(taps, call)                   \
  switch (taps) {                              \
    case 1: { enum { TAPS = 1 }; call; break; } \
    case 2: { enum { TAPS = 2 }; call; break; } \
    case 3: { enum { TAPS = 3 }; call; break; } \
    case 4: { enum { TAPS = 4 }; call; break; } \
    case 5: { enum { TAPS = 5 }; call; break; } \
    case 6: { enum { TAPS = 6 }; call; break; } \
    case 7: { enum { TAPS = 7 }; call; break; } \
    case 8: { enum { TAPS = 8 }; call; break; } \
  }
// clang-format on
