// RMSNorm of rows, forward and backward.
#pragma once
#include "simd.h"
#include "workspace.h"

struct NormCall {
  int64_t rows, width, threads;
  float epsilon;
  const float *x, *weight;
  float *out;
  const float *dout;
  float *dx, *sums;  // sums: (threads, width), of the gradient of the weight
};

INLINE float dot(int64_t count, const float *a, const float *b) {
  float parts[8] = {}, sum = 0;  // eight sums side by side: they hide each other's latency
  int64_t j = 0;
  for (; j + 8 <= count; j += 8) UNROLL for (int k = 0; k < 8; k++) parts[k] += a[j + k] * b[j + k];
  for (; j < count; j++) sum += a[j] * b[j];
  for (int k = 0; k < 8; k++) sum += parts[k];
  return sum;
}
INLINE float root_scale(const NormCall &a, const float *x) {
  return 1.f / __builtin_sqrtf(dot(a.width, x, x) / (float)a.width + a.epsilon);
}

extern "C" int popularity_norm_forward(const NormCall *call) {
  const NormCall &a = *call;
  return share_out(a.rows, a.threads, [&](int64_t from, int64_t to, int64_t) {
    for (int64_t i = from; i < to; i++) {
      const float *x = a.x + i * a.width, scale = root_scale(a, x);
      float *out = a.out + i * a.width;
      for (int64_t j = 0; j < a.width; j++) out[j] = x[j] * scale * a.weight[j];
    }
    return true;
  });
}

extern "C" int popularity_norm_backward(const NormCall *call) {
  const NormCall &a = *call;
  return share_out(a.rows, a.threads, [&](int64_t from, int64_t to, int64_t thread) {
    float *sums = a.sums + thread * a.width;
    for (int64_t i = from; i < to; i++) {
      const float *x = a.x + i * a.width, *dout = a.dout + i * a.width, scale = root_scale(a, x);
      float *dx = a.dx + i * a.width;
      for (int64_t j = 0; j < a.width; j++) {
        dx[j] = dout[j] * a.weight[j];
        sums[j] += dout[j] * x[j] * scale;
      }
      const float shrink = dot(a.width, dx, x) * scale * scale / (float)a.width;
      for (int64_t j = 0; j < a.width; j++) dx[j] = (dx[j] - x[j] * shrink) * scale;
    }
    return true;
  });
}
