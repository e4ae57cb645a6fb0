// The functions that kernel_library.py calls through ctypes: plain C structures of sizes and pointers, no headers of
// Python or PyTorch. All numbers are float32, all channels multiples of 16, all rows contiguous.
//
// The batch is shared out to threads once, sequence by sequence, in a fixed way: with the same number of threads, the
// same bits. A thread works tile by tile, so that everything between two projections stays in its cache.
#include "block.h"
#include "embedding.h"
#include "mamba2.h"
#include "norm.h"

// ---- the scan alone

struct ScanCall {
  int64_t batch, length, channels, states, softplus, interval, threads;
  const float *x, *delta, *z;  // (batch, length, channels)
  const float *b, *c;          // (batch, length, states)
  const float *A, *D, *bias;   // (states, channels), (channels), (channels)
  float *y, *kept;
  const float *dy;
  float *dx, *ddelta, *dz, *db, *dc;
  float *sums;  // (threads, states + 2, channels): of A, D and bias
};

INLINE Stretch sequence(const ScanCall &a, int64_t i) {
  const int64_t l = a.length, d = a.channels, n = a.states;
  // clang-format off
  return {l, d, n, a.x + i * l * d, a.delta + i * l * d, a.z ? a.z + i * l * d : nullptr,
          a.b + i * l * n, a.c + i * l * n, d, d, d, n, n, a.A, a.D, a.bias, a.softplus != 0};
  // clang-format on
}

extern "C" int popularity_scan_forward(const ScanCall *call) {
  const ScanCall &a = *call;
  const int64_t size = a.states * a.channels;
  return share_out(a.batch, a.threads, [&](int64_t from, int64_t to, int64_t) {
    float *states = workspace.get(size);
    if (!states) return false;
    for (int64_t i = from; i < to; i++) {
      memset(states, 0, sizeof(float) * size);
      scan_forward(sequence(a, i), states, kept_of(a.kept, i, a.length, a.interval, size, 0),
                   a.y + i * a.length * a.channels, a.channels);
    }
    return true;
  });
}

extern "C" int popularity_scan_backward(const ScanCall *call) {
  const ScanCall &a = *call;
  const int64_t size = a.states * a.channels, ld = a.length * a.channels, ln = a.length * a.states, d = a.channels;
  return share_out(a.batch, a.threads, [&](int64_t from, int64_t to, int64_t thread) {
    float *p = workspace.get(size + scratch_size(d, a.states, a.interval) + 16);
    if (!p) return false;
    float *carry = take(p, size);
    const Scratch scratch = scratch_in(p, d, a.states, a.interval);
    float *dA = a.sums + thread * (size + 2 * d);
    for (int64_t i = from; i < to; i++) {
      // clang-format off
      const StretchGradients grad = {
          a.dy + i * ld, a.dx + i * ld, a.ddelta + i * ld, a.dz ? a.dz + i * ld : nullptr, a.db + i * ln, a.dc + i * ln,
          nullptr, d, d, d, d, a.states, a.states, 0, dA, dA + size, dA + size + d};
      // clang-format on
      memset(carry, 0, sizeof(float) * size);
      scan_backward(sequence(a, i), grad, kept_of(a.kept, i, a.length, a.interval, size, 0), carry, scratch);
    }
    return true;
  });
}

// ---- what Python compares with its own numbers before it calls anything

// Raise it with every change of a structure above, of what a field means, or of a function's name.
constexpr int64_t VERSION = 3;

extern "C" const int64_t popularity_abi[] = {
    VERSION,  sizeof(ScanCall), sizeof(BlockCall), sizeof(Mamba2Call), sizeof(EmbeddingCall), sizeof(NormCall),
    CHANNELS, TAPS_MAX,         STATES_MAX,        SEGMENT,            CHUNK};
