// Tiles of a batch: whole sequences, or a stretch of one.
#pragma once
#include "simd.h"

struct Tiling {
  int64_t length, wanted, multiple;  // of the sequences; tokens of a tile; what stretches are a multiple of
  int64_t rows() const { return length <= wanted ? wanted : round_up(wanted, multiple); }  // of a tile, at most
};

struct Tile {
  int64_t row, sequence, sequences, first, tokens, rows;
};

// Tiles of sequences from .. to, in reading order or backwards.
template <typename Work>
static void for_tiles(const Tiling &tiling, int64_t from, int64_t to, bool backwards, const Work &work) {
  const int64_t length = tiling.length;
  if (length <= tiling.wanted) {
    const int64_t sequences = tiling.wanted / length;
    for (int64_t i = from; i < to; i += sequences) {
      const int64_t count = at_most(to - i, sequences);
      work(Tile{i * length, i, count, 0, length, count * length});
    }
    return;
  }
  const int64_t stretch = tiling.rows(), stretches = (length + stretch - 1) / stretch;
  for (int64_t i = from; i < to; i++)
    for (int64_t j = 0; j < stretches; j++) {
      const int64_t first = (backwards ? stretches - 1 - j : j) * stretch;
      const int64_t tokens = at_most(length - first, stretch);
      work(Tile{i * length + first, i, 1, first, tokens, tokens});
    }
}
