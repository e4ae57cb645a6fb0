// Vectors of the instruction set that this file is compiled for, and the elementary functions that the scan needs.
// GCC and Clang vector extensions only: the same source serves AVX-512, AVX2 and anything else.
#pragma once
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__AVX512F__) && defined(__AVX512DQ__)
#include <immintrin.h>
#define W 16  // floats in a vector
#elif defined(__AVX2__)
#define W 8
#else
#define W 4
#endif

constexpr int64_t CHANNELS = 16;  // channels come in multiples of it: whole vectors, whatever W is

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

typedef float vec __attribute__((vector_size(W * 4)));
typedef float vec_unaligned __attribute__((vector_size(W * 4), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(W * 4)));

INLINE int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
INLINE int64_t at_most(int64_t n, int64_t limit) { return n < limit ? n : limit; }

INLINE vec load(const float *p) { return *(const vec_unaligned *)p; }
INLINE void store(float *p, vec v) { *(vec_unaligned *)p = v; }
INLINE vec splat(float s) { return vec{} + s; }

static const float LOG2E = 1.44269504088896341f, LOG2E_REST = 1.92596299e-8f;

// The coefficients of 2^f - 1 for |f| <= 1/2, highest power first: relative error 1e-7.
static const float EXP2[5] = {0.0013264727180199367f, 0.009671512640864521f, 0.055507337433084884f, 0.2402224208534867f,
                              0.6931469775991245f};

// 2^f - 1 for |f| <= 1/2, for G vectors side by side: their chains of operations hide each other's latency.
template <int G>
INLINE void exp2_less_1(const vec *f, vec *p) {
  UNROLL for (int i = 0; i < G; i++) p[i] = EXP2[0] * f[i] + EXP2[1];
  UNROLL for (int j = 2; j < 5; j++) UNROLL for (int i = 0; i < G; i++) p[i] = p[i] * f[i] + EXP2[j];
  UNROLL for (int i = 0; i < G; i++) p[i] *= f[i];
}

// x as a whole number and a rest of at most 1/2, and v * 2^whole; infinity has no rest.
#if W == 16
INLINE vec split(vec x, vec *whole) {
  const vec f = (vec)_mm512_reduce_ps((__m512)x, 8);
  *whole = x - f;
  return f;
}
INLINE vec scale(vec v, vec whole) { return (vec)_mm512_scalef_ps((__m512)v, (__m512)whole); }
INLINE vec finite(vec v) {
  return (vec)_mm512_range_ps((__m512)v, (__m512)splat(3.4e38f), 2);
}  // the smaller, v's sign
#else
INLINE vec split(vec x, vec *whole) {
  const vec magic = splat(12582912.f);  // 1.5 * 2^23: adding it rounds to a whole number
  vec c = x < -127.f ? splat(-127.f) : x;
  c = c > 128.f ? splat(128.f) : c;
  *whole = (c + magic) - magic;
  return c - *whole;
}
INLINE vec scale(vec v, vec whole) {  // -127 stands for 0 and 128 for infinity, as their exponents do
  return v * (vec)(__builtin_convertvector(whole + 127.f, ivec) << 23);
}
INLINE vec finite(vec v) {
  v = v > 3.4e38f ? splat(3.4e38f) : v;
  return v < -3.4e38f ? splat(-3.4e38f) : v;
}
#endif

// 2^x, relative error 1e-7; `rest` is far below 1 and added to x.
INLINE vec exp2_sum(vec x, vec rest) {
  vec whole, p;
  const vec f = split(x, &whole) + rest;
  exp2_less_1<1>(&f, &p);
  return scale(1.f + p, whole);
}
INLINE vec exp2_(vec x) { return exp2_sum(x, vec{}); }

// In place of x: 2^x.
template <int G>
INLINE void exp2_all(vec *x) {
  vec f[G], p[G];
  UNROLL for (int i = 0; i < G; i++) f[i] = split(x[i], &x[i]);
  exp2_less_1<G>(f, p);
  UNROLL for (int i = 0; i < G; i++) x[i] = scale(1.f + p[i], x[i]);
}

// In place of h: 2^x h + add. As h + (2^x - 1) h, so that a decay near 1 keeps the accuracy of its distance from 1:
// over thousands of tokens the decays multiply. An infinite h stays so, whatever the sign of 2^x - 1.
template <int G>
INLINE void decay_and_add(vec *x, vec *h, const vec *add) {
  vec f[G], p[G];
  UNROLL for (int i = 0; i < G; i++) f[i] = split(x[i], &x[i]);
  exp2_less_1<G>(f, p);
  UNROLL for (int i = 0; i < G; i++) h[i] = scale(h[i], x[i]);
  UNROLL for (int i = 0; i < G; i++) p[i] = p[i] * finite(h[i]) + add[i];
  UNROLL for (int i = 0; i < G; i++) h[i] += p[i];
}

// e^x for x <= 0, with the rounding error of x log2(e) made good: for a large -x it would be most of the result's
// error.
INLINE vec exp_negative(vec x) {
  x = splat(-104.f) > x ? splat(-104.f) : x;  // e^-104 is 0, infinity would make its own rounding error
  const vec y = x * LOG2E;
#ifdef __FP_FAST_FMAF
  return exp2_sum(y, (x * LOG2E - y) + x * LOG2E_REST);
#else
  return exp2_(y);
#endif
}

// 1 / x for x >= 1
INLINE vec reciprocal(vec x) {
#if W == 16
  vec r = (vec)_mm512_rcp14_ps((__m512)x);
  r = r * (2.f - x * r);
  return x > 1e37f ? vec{} : r;  // Newton's step would make 0 * infinity there
#else
  return 1.f / x;
#endif
}
INLINE vec sigmoid(vec x) { return reciprocal(1.f + exp2_(x * -LOG2E)); }

// log(1 + e^x) = max(x, 0) + log1p(e^-|x|), log1p(t) = t P(t) on [0, 1] with relative error 3e-8; and its derivative
INLINE vec softplus(vec x, vec *derivative) {
  const vec t = exp_negative((vec)((ivec)x | INT32_MIN));
  vec p = splat(0.005232693567162261f);
  p = p * t - 0.02950523596296856f;
  p = p * t + 0.07822594732451496f;
  p = p * t - 0.13663245408015293f;
  p = p * t + 0.19106006578421386f;
  p = p * t - 0.2484298216687181f;
  p = p * t + 0.333190968016123f;
  p = p * t - 0.49999493140189116f;
  p = p * t + 1.0f;
  if (derivative) {
    const vec r = reciprocal(1.f + t);
    *derivative = x < 0.f ? t * r : r;
  }
  return (x > 0.f ? x : vec{}) + p * t;
}

INLINE float sum_lanes(vec v) {
  float lanes[W];
  store(lanes, v);
  UNROLL for (int half = W / 2; half; half /= 2) UNROLL for (int i = 0; i < half; i++) lanes[i] += lanes[i + half];
  return lanes[0];
}

#if W == 16
// The sums of the lanes of 16 vectors, as one vector.
INLINE vec sum_lanes_of_16(const float *p) {
  vec v[16], u[8], w[4], q[2];
  UNROLL for (int i = 0; i < 16; i++) v[i] = load(p + i * W);
  UNROLL for (int i = 0; i < 8; i++) u[i] =
      __builtin_shuffle(v[i], v[i + 8], (ivec){0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23}) +
      __builtin_shuffle(v[i], v[i + 8], (ivec){8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31});
  UNROLL for (int i = 0; i < 4; i++) w[i] =
      __builtin_shuffle(u[i], u[i + 4], (ivec){0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27}) +
      __builtin_shuffle(u[i], u[i + 4], (ivec){4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31});
  UNROLL for (int i = 0; i < 2; i++) q[i] =
      __builtin_shuffle(w[i], w[i + 2], (ivec){0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29}) +
      __builtin_shuffle(w[i], w[i + 2], (ivec){2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31});
  return __builtin_shuffle(q[0], q[1], (ivec){0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30}) +
         __builtin_shuffle(q[0], q[1], (ivec){1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31});
}
#endif

// out[i] = sum of the lanes of vector i
INLINE void sum_lanes_of(const float *p, int64_t count, float *out) {
  int64_t i = 0;
#if W == 16
  for (; i + 16 <= count; i += 16) store(out + i, sum_lanes_of_16(p + i * W));
#endif
  for (; i < count; i++) out[i] = sum_lanes(load(p + i * W));
}
