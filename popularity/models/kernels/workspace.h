// Memory and threads of the kernels.
#pragma once
#include "simd.h"

#ifdef __SANITIZE_ADDRESS__  // each buffer of its exact size, with a gap behind it that nothing may touch
#include <sanitizer/asan_interface.h>
constexpr bool EXACT = true;
constexpr int64_t GAP = 16;
#else
#define ASAN_POISON_MEMORY_REGION(address, size)
constexpr bool EXACT = false;
constexpr int64_t GAP = 0;
#endif

struct Workspace {  // one thread's memory, kept from call to call: fresh pages cost more than the work in them
  float *memory = nullptr;
  int64_t size = 0;
  float *get(int64_t wanted) {
    if (wanted > size || EXACT) {
      free(memory);
      memory = (float *)aligned_alloc(64, (size_t)round_up(wanted * 4, 64));
      size = memory ? wanted : 0;
    }
    return memory;
  }
  ~Workspace() { free(memory); }
};
// Not inside functions: a thread that does not pass their declarations itself would never free them.
static thread_local Workspace workspace, tiles;  // tiles: of a thread, beside what it holds for all

// Space for `count` numbers at p, which moves behind them. Every workspace has 16 numbers to spare for each take.
INLINE float *take(float *&p, int64_t count) {
  float *here = p;
  p += round_up(count, 16);
  ASAN_POISON_MEMORY_REGION(p, GAP * sizeof(float));
  p += GAP;
  return here;
}

// Call work(first sequence, the one after the last, thread), which is false if it failed. Returns 0 if none failed.
template <typename Work>
static int share_out(int64_t batch, int64_t threads, const Work &work) {
  int failed = 0;
#pragma omp parallel for num_threads((int)threads) if (threads > 1) schedule(static, 1) reduction(| : failed)
  for (int64_t i = 0; i < threads; i++)
    if (!work(batch * i / threads, batch * (i + 1) / threads, i)) failed |= 1;
  return failed;
}
