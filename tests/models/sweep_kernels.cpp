// Runs every exported kernel over a sweep of shapes, with heap buffers of exactly the size that Python allocates.
//
// Built with AddressSanitizer and UndefinedBehaviorSanitizer: a read or write outside a buffer ends the program. Every
// result starts as NaN and all inputs are finite, so that an element which is not written, or is made from one that was
// not, is found too.
#include <math.h>
#include <stdio.h>

#include <memory>
#include <vector>

#include "scan.cpp"

typedef std::unique_ptr<float[]> Buffer;
static std::vector<Buffer> buffers;

struct Result {
  const char *name;
  const float *at;
  int64_t rows, columns, row;  // `columns` of each row are checked, rows lie `row` apart
};
static std::vector<Result> results;

static float *allocate(int64_t size) {
  buffers.emplace_back(new float[size]);  // no initialisation, no padding: the sanitizer sees its exact end
  return buffers.back().get();
}
static const float *input(int64_t size, float from, float to) {
  static uint32_t state = 1;
  float *values = allocate(size);
  for (int64_t i = 0; i < size; i++) {
    state = state * 1664525u + 1013904223u;
    values[i] = from + (to - from) * (float)(state >> 8) / 16777216.f;
  }
  return values;
}
static float *result(const char *name, int64_t rows, int64_t columns, int64_t row, float start = NAN) {
  float *values = allocate(rows * row);
  for (int64_t i = 0; i < rows * row; i++) values[i] = start;
  results.push_back({name, values, rows, columns, row});
  return values;
}

static void finish(const char *what, int64_t a, int64_t b, int64_t c, int64_t d) {
  for (const Result &r : results)
    for (int64_t i = 0; i < r.rows; i++)
      for (int64_t j = 0; j < r.columns; j++)
        if (!isfinite(r.at[i * r.row + j])) {
          printf("%s of %s is not finite: %ld %ld %ld %ld\n", r.name, what, (long)a, (long)b, (long)c, (long)d);
          exit(1);
        }
  results.clear();
  buffers.clear();
}
static void require(bool ok, const char *what) {
  if (ok) return;
  printf("%s\n", what);
  exit(1);
}

static void scan(int64_t batch, int64_t length, int64_t channels, int64_t states, int64_t threads, bool gated) {
  const int64_t l = batch * length, interval = round_up(states, SEGMENT);
  ScanCall a = {};
  a.batch = batch, a.length = length, a.channels = channels, a.states = states, a.threads = threads;
  a.softplus = 1, a.interval = interval;
  a.x = input(l * channels, -1, 1), a.delta = input(l * channels, -3, 1);
  a.z = gated ? input(l * channels, -1, 1) : nullptr;
  a.b = input(l * states, -1, 1), a.c = input(l * states, -1, 1);
  a.A = input(states * channels, -2, 0), a.D = input(channels, -1, 1), a.bias = input(channels, -1, 1);
  a.y = result("y", l, channels, channels);
  a.kept = result("kept", batch * ((length - 1) / interval), states * channels, states * channels);
  require(!popularity_scan_forward(&a), "scan forward failed");
  a.dy = input(l * channels, -1, 1);
  a.dx = result("dx", l, channels, channels), a.ddelta = result("ddelta", l, channels, channels);
  a.dz = gated ? result("dz", l, channels, channels) : nullptr;
  a.db = result("db", l, states, states), a.dc = result("dc", l, states, states);
  a.sums = result("sums", threads, (states + 2) * channels, (states + 2) * channels, 0);
  require(!popularity_scan_backward(&a), "scan backward failed");
  finish("scan", batch, length, channels, states);
}

struct Shape {
  int64_t batch, length, width, channels, states, rank, taps, threads;
};

static void block(const Shape &s, bool want_du) {
  const int64_t l = s.batch * s.length, d = s.channels, interval = round_up(s.states, SEGMENT);
  const int64_t factors = s.rank + 2 * s.states, out = round_up(s.width, CHANNELS);
  BlockCall a = {};
  a.batch = s.batch, a.length = s.length, a.width = s.width, a.channels = d, a.states = s.states, a.rank = s.rank;
  a.taps = s.taps, a.interval = interval, a.threads = s.threads;
  a.u = input(l * s.width, -1, 1), a.w_in = input(2 * d * s.width, -1, 1);
  a.conv = input(s.taps * d, -1, 1), a.conv_bias = input(d, -1, 1);
  a.w_x = input(factors * d, -.1f, .1f), a.w_dt = input(d * s.rank, -.1f, .1f), a.bias = input(d, -3, 0);
  a.A = input(s.states * d, -2, 0), a.D = input(d, -1, 1), a.w_out = input(s.width * d, -1, 1);
  a.out = result("out", l, s.width, out), a.xz = result("xz", l, 2 * d, 2 * d);
  a.projected = result("projected", l, factors, round_up(factors, CHANNELS));
  a.kept = result("kept", s.batch * ((s.length - 1) / interval), s.states * d, s.states * d);
  require(!popularity_block_forward(&a), "block forward failed");
  a.dout = input(l * s.width, -1, 1);
  a.du = want_du ? result("du", l, s.width, out) : nullptr;
  const int64_t rows = 3 * s.width + s.taps + 1 + factors + s.rank + 1 + s.states + 1;
  a.sums = result("sums", s.threads, rows * d, rows * d, 0);
  require(!popularity_block_backward(&a), "block backward failed");
  finish("block", s.width, s.channels, s.states, s.rank);
}

struct Mamba2Shape {
  int64_t batch, length, width, heads, headdim, states, taps, threads;
};

static void mamba2(const Mamba2Shape &s, bool train, bool want_du) {
  const int64_t l = s.batch * s.length, steps = round_up(s.heads, CHANNELS), out = round_up(s.width, CHANNELS);
  const int64_t inner = s.heads * s.headdim, mixed = inner + 2 * s.states, row = inner + mixed + steps;
  Mamba2Call a = {};
  a.batch = s.batch, a.length = s.length, a.width = s.width, a.heads = s.heads, a.headdim = s.headdim;
  a.states = s.states, a.steps = steps, a.taps = s.taps, a.threads = s.threads, a.channels = inner;
  a.u = input(l * s.width, -1, 1), a.keep = want_du ? input(l, 0, 1) : nullptr;
  a.w_in = input(row * s.width, -.5f, .5f), a.conv = input(s.taps * mixed, -1, 1), a.conv_bias = input(mixed, -1, 1);
  a.dt_bias = input(steps, -3, 0), a.A = input(steps, -2, 0), a.D = input(steps, -1, 1);
  a.w_out = input(s.width * inner, -1, 1);
  a.out = result("out", l, s.width, out), a.projected = result("projected", l, row, row);
  const int64_t kept = s.batch * ((s.length - 1) / CHUNK);
  a.kept = train ? result("kept", kept, inner * s.states, inner * s.states) : nullptr;
  require(!popularity_mamba2_forward(&a), "Mamba-2 forward failed");
  if (train) {
    a.dout = input(l * s.width, -1, 1);
    a.du = want_du ? result("du", l, s.width, out) : nullptr;
    const int64_t sums = s.width * (row + inner) + (s.taps + 1) * mixed + 3 * steps;
    a.sums = result("sums", s.threads, sums, sums, 0);
    require(!popularity_mamba2_backward(&a), "Mamba-2 backward failed");
  }
  finish("Mamba-2", s.length, s.width, s.headdim, s.states);
}

struct EmbeddingShape {
  int64_t known, songs, size, categories, hidden, width, threads;
};

// whole numbers of exactly `size`, from 0 to below `most`, or from -1 on
template <typename Number>
static std::unique_ptr<Number[]> whole(int64_t size, int64_t most, int64_t least = 0) {
  std::unique_ptr<Number[]> values(new Number[size]);
  for (int64_t i = 0; i < size; i++) values[i] = (Number)(least + (i * 7919 + i / 3) % (most - least));
  return values;
}

static void embedding(const EmbeddingShape &s, bool train, bool padded) {
  const int64_t rows = s.known + s.songs;
  EmbeddingCall a = {};
  a.known = s.known, a.rows = rows, a.size = s.size, a.categories = s.categories, a.hidden = s.hidden;
  a.width = s.width, a.threads = s.threads, a.codes_of_all = 5;
  const auto codes = whole<int64_t>(rows * s.categories, a.codes_of_all), role = whole<int64_t>(s.known, 4, -1);
  const auto song_bits = whole<int16_t>(rows * s.size, 1000), hidden_bits = whole<int16_t>(rows * s.hidden, 1000);
  a.codes = codes.get(), a.role = padded ? role.get() : nullptr;
  if (train) a.song_bits = song_bits.get(), a.hidden_bits = hidden_bits.get();
  a.song_threshold = 300, a.hidden_threshold = 200, a.song_scale = 1.4f, a.hidden_scale = 1.25f;
  a.known_song = input(s.known * s.size, -1, 1), a.song = input(s.songs * s.size, -1, 1);
  a.w_in = input(s.hidden * s.size, -.5f, .5f), a.b_in = input(s.hidden, -1, 1);
  a.table = input(a.codes_of_all * s.hidden, -1, 1);
  a.w_out = input(s.width * s.hidden, -.5f, .5f), a.b_out = input(s.width, -1, 1);
  a.kept = train ? allocate(rows * s.hidden) : nullptr;  // rows of padding are neither written nor read
  a.out = result("out", rows, s.width, s.width);
  require(!popularity_embedding_forward(&a), "embedding forward failed");
  if (train) {
    a.dout = input(rows * s.width, -1, 1);
    const int64_t sums = (s.size + 1 + a.codes_of_all + s.width) * s.hidden + s.width;
    a.sums = result("sums", s.threads, sums, sums, 0);
    require(!popularity_embedding_backward(&a), "embedding backward failed");
  }
  finish("embedding", s.known, s.songs, s.size, s.width);
}

static void norm(int64_t rows, int64_t width, int64_t threads) {
  NormCall a = {};
  a.rows = rows, a.width = width, a.threads = threads, a.epsilon = 1e-5f;
  a.x = input(rows * width, -1, 1), a.weight = input(width, -1, 1), a.dout = input(rows * width, -1, 1);
  a.out = result("out", rows, width, width), a.dx = result("dx", rows, width, width);
  a.sums = result("sums", threads, width, width, 0);
  require(!popularity_norm_forward(&a) && !popularity_norm_backward(&a), "norm failed");
  finish("norm", rows, width, threads, 0);
}

int main() {
  for (int64_t width = 1; width <= 40; width++) norm(5 + width, width, 1 + width % 3);
  for (int64_t width = 8; width <= 80; width += 8)
    for (int64_t size : {1, 5, 33, 178})
      embedding({3 * width, 1 + width % 5, size, width % 7, 2 * width, width, 1 + width % 3}, width % 3, width % 16);
  embedding({0, 5, 9, 6, 16, 8, 2}, true, true);      // no known song
  embedding({500, 40, 17, 6, 48, 24, 1}, true, true);  // several tiles
  embedding({500, 40, 17, 6, 48, 23, 2}, true, false);
  for (int64_t channels = 16; channels <= 80; channels += 16)
    for (int64_t states : {1, 4, 5, 16, 17, 33, 64})
      for (int64_t length : {1, 2, 15, 16, 17, 40, 130})
        scan(3, length, channels, states, channels == 32 ? 3 : 1, states % 2);
  for (int64_t width = 1; width <= 40; width++) {
    const int64_t channels = round_up(2 * width, CHANNELS);
    block({3, 19, width, channels, 1 + width % 21, 1 + width % 5, 1 + width % 8, 1}, width % 2);
    block({2, 5, width, round_up(width, CHANNELS), 1 + width % 7, 1, 4, 1 + width % 2}, true);
  }
  for (int64_t taps = 1; taps <= TAPS_MAX; taps++)
    for (int64_t length : {1, 3, 7, 30}) block({2, length, 7, 16, 4, 2, taps, 1}, true);
  block({2, 70, 16, 32, 64, 7, 8, 1}, true);     // most states, several kept
  block({1, 1700, 8, 16, 5, 1, 4, 1}, true);     // several tiles in a sequence
  block({2, 300, 64, 256, 16, 4, 4, 2}, false);  // the same, wide, and no gradient of u wanted
  block({300, 14, 24, 48, 16, 2, 4, 1}, true);   // many sequences in a tile, several tiles
  for (int64_t length = 1; length <= 40; length++) mamba2({2, length, 5, 3, 16, 16, 1 + length % 8, 1}, true, true);
  for (int64_t width = 1; width <= 40; width++)
    mamba2({3, 1 + 5 * width % 70, width, width, 16, 16, 4, 1 + width % 2}, true, width % 2);
  for (int64_t headdim = 16; headdim <= 80; headdim += 16)
    for (int64_t states = 16; states <= 144; states += 32)
      for (int64_t length : {9, 32, 75}) mamba2({1, length, 6, 1 + states % 3, headdim, states, 4, 1}, true, true);
  mamba2({2, 300, 64, 2, 64, 64, 4, 2}, true, false);    // several tiles in a sequence
  mamba2({2, 300, 64, 2, 64, 64, 4, 1}, false, false);   // the same without a backward pass
  mamba2({100, 17, 24, 20, 16, 16, 4, 1}, true, true);   // many sequences in a tile, several tiles
  mamba2({40, 17, 24, 20, 16, 16, 4, 1}, false, false);  // the same without a backward pass
  return 0;
}
