// Convolutions of images (images, rows, columns, channels) with kernels (kernel rows, kernel columns, channels, filters).
//
// The sums of a few pixels of one row times two vectors of filters stay in registers from the first tap of their windows to the last. A row of a
// window lies in memory without gaps, (kernel columns, channels), so that a convolution is one product per row of the kernel.
#pragma once

#include "kernels.h"
#include "product.h"

namespace fedloom::FEDLOOM_ISA {

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kPixels = 12;  // of a tile: with two vectors of filters, as many sums as the registers hold
#else
constexpr int kPixels = 6;
#endif

inline long highest(long a, long b) { return a > b ? a : b; }

// sums[i][j] += sum over k of left[i * down + k * across] * panel[k][j].
template <int M, int N>
FEDLOOM_INLINE void multiply_steps(const float* left, long down, long across, const float* panel, long depth, Vec (&sums)[M][N]) {
  for (long k = 0; k < depth; k++, left += across, panel += N * kLanes) {
    Vec columns[N];
#pragma GCC unroll 2
    for (int j = 0; j < N; j++) columns[j] = load(panel + j * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < M; i++) {
      const Vec value = broadcast(left[i * down]);
#pragma GCC unroll 2
      for (int j = 0; j < N; j++) sums[i][j] += value * columns[j];
    }
  }
}

// Calls `f(first, Rows<size>{})`; 1 <= size <= M.
template <int M, typename F>
FEDLOOM_INLINE void with_size(long size, long first, const F& f) {
  if constexpr (M > 1) {
    if (size < M) return with_size<M - 1>(size, first, f);
  }
  f(first, Rows<M>{});
}

// Calls `f(first, Rows<M>{})` for tiles that cover `count` pixels: as few as can be when none is larger than `Most`, and all alike but for one pixel.
template <int Most, typename F>
FEDLOOM_INLINE void for_even_tiles(long count, const F& f) {
  const long number = tiles(count, Most);
  for (long tile = 0; tile < number; tile++) {
    const Share share(count, tile, number);
    with_size<Most>(share.end - share.begin, share.begin, f);
  }
}

// Filters lie in panels of two vectors; the last one has one vector if that is enough.
inline long vectors(long columns) { return tiles(columns, kLanes); }
inline long panels(long columns) { return tiles(columns, 2 * kLanes); }
inline bool is_narrow(long panel, long columns) { return columns - panel * 2 * kLanes <= kLanes; }

// Calls `f(Rows<N>{})`, where N is how many vectors this panel has.
template <typename F>
FEDLOOM_INLINE void with_width(long panel, long columns, const F& f) {
  is_narrow(panel, columns) ? f(Rows<1>{}) : f(Rows<2>{});
}

// A row of the image that a convolution is summed from, with zeros on both sides, and masked where the gradient of relu is 0.
inline void copy_row(const float* from, const float* mask, long numbers, float* to, long before, long after) {
  memset(to, 0, before * sizeof(float));
  to += before;
  if (mask == nullptr) {
    memcpy(to, from, numbers * sizeof(float));
  } else {
    for (long i = 0; i < numbers; i += kLanes) {
      const long count = least(numbers - i, kLanes);
      store(to + i, load(mask + i, count) > 0.f ? load(from + i, count) : Vec{}, count);
    }
  }
  memset(to + numbers, 0, after * sizeof(float));
}

// What a row of sums is made of: for each pixel, `taps` rows of `run` numbers, which lie `row` apart; the next pixel's are `advance` further.
struct Windows {
  const float* first;
  long taps, run, row, advance, pixels;
};

template <int N, typename Emit>
FEDLOOM_INLINE void sum_windows(const Windows& w, const float* panel, const Emit& emit) {
  for_even_tiles<kPixels>(w.pixels, [&](long first, auto rows) __attribute__((always_inline)) {
    constexpr int M = decltype(rows)::count;
    Vec sums[M][N];
    clear(sums);
    const float* left = w.first + first * w.advance;
    for (long tap = 0; tap < w.taps; tap++, left += w.row) multiply_steps(left, w.advance, 1, panel + tap * w.run * N * kLanes, w.run, sums);
    for (int i = 0; i < M; i++)
      for (int j = 0; j < N; j++) emit(first + i, j, sums[i][j]);
  });
}

// y = relu(x * kernel + bias), relu if it is asked for.
inline void conv_forward(const ConvForward& c, Team& team, long member) {
  if (member >= c.threads) return team.barrier();  // the team has grown since, and has no scratch memory for this member
  const long size = least(team.size(), c.threads);
  const Convolution& s = c.shape;
  const long run = s.kernel_columns * s.channels, depth = s.kernel_rows * run, number = panels(s.filters);
  float* const packed = team.scratch();
  const Share packing(vectors(s.filters), member, size);
  for (long v = packing.begin; v < packing.end; v++) {
    const long panel = v / 2, width = is_narrow(panel, s.filters) ? kLanes : 2 * kLanes;
    pack(c.kernel, s.filters, depth, v * kLanes, s.filters, packed + panel * depth * 2 * kLanes + v % 2 * kLanes, width);
  }
  team.barrier();

  const long left = s.left, right = highest((s.out_columns - 1) * s.column_stride + s.kernel_columns - left - s.columns, 0);
  const bool pads = left > 0 || right > 0;
  const long source_row = (left + s.columns + right) * s.channels;
  float* const padded_image = packed + s.packed(s.filters) + member * s.padded_image();
  const Share own(s.images * s.out_rows, member, size);
  for (long begin = own.begin; begin < own.end;) {
    const long image = begin / s.out_rows, end = least(own.end, (image + 1) * s.out_rows);
    const float* const x = c.x + image * s.rows * s.columns * s.channels;
    const long row_begin = begin - image * s.out_rows, row_end = end - image * s.out_rows;
    if (pads) {
      const long lowest = highest(row_begin * s.row_stride - s.top, 0);
      const long beyond = least((row_end - 1) * s.row_stride - s.top + s.kernel_rows, s.rows);
      for (long row = lowest; row < beyond; row++)
        copy_row(x + row * s.columns * s.channels, nullptr, s.columns * s.channels, padded_image + row * source_row, left * s.channels,
                 right * s.channels);
    }
    const float* const source = pads ? padded_image : x;
    for (long panel = 0; panel < number; panel++)
      with_width(panel, s.filters, [&](auto width) __attribute__((always_inline)) {
        constexpr int N = decltype(width)::count;
        const long filter = panel * 2 * kLanes;
        const float* const weights = packed + panel * depth * 2 * kLanes;
        Vec bias[N];
        for (int j = 0; j < N; j++) bias[j] = load(c.bias + filter + j * kLanes, least(s.filters - filter - j * kLanes, kLanes));
        for (long row = row_begin; row < row_end; row++) {
          const long top = row * s.row_stride - s.top;
          const long tap = highest(-top, 0), taps = highest(least(s.kernel_rows, s.rows - top) - tap, 0);
          float* const y = c.y + (image * s.out_rows + row) * s.out_columns * s.filters + filter;
          sum_windows<N>({source + (top + tap) * source_row, taps, run, source_row, s.column_stride * s.channels, s.out_columns},
                         weights + tap * run * N * kLanes, [&](long pixel, int j, Vec sum) __attribute__((always_inline)) {
                           sum += bias[j];
                           if (s.relu) sum = sum < 0.f ? Vec{} : sum;  // NaN stays
                           store(y + pixel * s.filters + j * kLanes, sum, least(s.filters - filter - j * kLanes, kLanes));
                         });
        }
      });
    begin = end;
  }
}

// Of the taps of a kernel along one side, those that reach the input at positions of one remainder: they step through the output one by one.
struct Phase {
  Phase(long taps, long stride, long remainder)
      : remainder(remainder), stride(stride), count(taps > remainder ? tiles(taps - remainder, stride) : 0) {}
  long tap(long i) const { return remainder + (count - 1 - i) * stride; }  // in the order of the output
  long remainder, stride, count;
};

// dx = the gradient by y, through relu, times the kernel with its filters and channels exchanged.
inline void conv_input_gradient(const ConvInputGradient& c, Team& team, long member) {
  if (member >= c.threads) return team.barrier();
  const long size = least(team.size(), c.threads);
  const Convolution& s = c.shape;
  const long number = panels(s.channels), depth = s.kernel_rows * s.kernel_columns * s.filters;
  float* const packed = team.scratch();  // per panel: by row phase, column phase, kernel row, kernel column
  for (long v = 0, tap = 0; v < vectors(s.channels); v++) {
    const long panel = v / 2, width = is_narrow(panel, s.channels) ? kLanes : 2 * kLanes;
    float* to = packed + panel * depth * 2 * kLanes + v % 2 * kLanes;
    for (long above = 0; above < s.row_stride; above++)
      for (long beside = 0; beside < s.column_stride; beside++) {
        const Phase down(s.kernel_rows, s.row_stride, above), across(s.kernel_columns, s.column_stride, beside);
        for (long i = 0; i < down.count; i++)
          for (long j = 0; j < across.count; j++, tap++, to += s.filters * width)
            if (tap % size == member)
              pack_transposed(c.kernel + (down.tap(i) * s.kernel_columns + across.tap(j)) * s.channels * s.filters, s.filters, s.filters,
                              v * kLanes, s.channels, to, width);
      }
  }
  team.barrier();

  const long left = tiles(s.kernel_columns, s.column_stride) - 1;
  const long right = highest((s.columns - 1 + s.left) / s.column_stride + 1 - s.out_columns, 0);
  const long source_row = (left + s.out_columns + right) * s.filters;
  float* const source = packed + s.packed(s.channels) + member * s.padded_image();
  const Share own(s.images * s.rows, member, size);
  for (long begin = own.begin; begin < own.end;) {
    const long image = begin / s.rows, end = least(own.end, (image + 1) * s.rows);
    const long row_begin = begin - image * s.rows, row_end = end - image * s.rows;
    const long offset = image * s.out_rows * s.out_columns * s.filters, numbers = s.out_columns * s.filters;
    const long lowest = highest((row_begin + s.top) / s.row_stride - tiles(s.kernel_rows, s.row_stride) + 1, 0);
    const long beyond = least((row_end - 1 + s.top) / s.row_stride + 1, s.out_rows);
    for (long row = lowest; row < beyond; row++)
      copy_row(c.grad + offset + row * numbers, s.relu ? c.y + offset + row * numbers : nullptr, numbers, source + row * source_row,
               left * s.filters, right * s.filters);
    for (long panel = 0; panel < number; panel++)
      with_width(panel, s.channels, [&](auto width) __attribute__((always_inline)) {
        constexpr int N = decltype(width)::count;
        const long channel = panel * 2 * kLanes;
        for (long row = row_begin; row < row_end; row++) {
          const float* weights = packed + panel * depth * 2 * kLanes;
          for (long above = 0; above < (row + s.top) % s.row_stride; above++)
            weights += Phase(s.kernel_rows, s.row_stride, above).count * s.kernel_columns * s.filters * N * kLanes;
          const Phase down(s.kernel_rows, s.row_stride, (row + s.top) % s.row_stride);
          const long top = (row + s.top) / s.row_stride - down.count + 1;
          const long tap = highest(-top, 0), taps = highest(least(down.count, s.out_rows - top) - tap, 0);
          for (long beside = 0; beside < s.column_stride; beside++) {
            const Phase across(s.kernel_columns, s.column_stride, beside);
            const long run = across.count * s.filters;
            const long column = ((beside - s.left) % s.column_stride + s.column_stride) % s.column_stride;  // the first of this phase
            const long first = (column + s.left) / s.column_stride - across.count + 1 + left;
            float* const dx = c.dx + ((image * s.rows + row) * s.columns + column) * s.channels + channel;
            if (column < s.columns)
              sum_windows<N>({source + (top + tap) * source_row + first * s.filters, taps, run, source_row, s.filters,
                              tiles(s.columns - column, s.column_stride)},
                             weights + tap * run * N * kLanes, [&](long pixel, int j, Vec sum) __attribute__((always_inline)) {
                               store(dx + pixel * s.column_stride * s.channels + j * kLanes, sum, least(s.channels - channel - j * kLanes, kLanes));
                             });
            weights += down.count * run * N * kLanes;
          }
        }
      });
    begin = end;
  }
}

// d_kernel[tap] = sum over pixels of x[pixel + tap] times the gradient by y, through relu; d_bias = the sum of that gradient.
// A member has some tiles of d_kernel and goes through all images for them, a few rows at a time, which stay in its cache for all its tiles.
inline void conv_weight_gradient(const ConvWeightGradient& c, Team& team, long member) {
  if (member >= c.threads) return;
  const long size = least(team.size(), c.threads);
  const Convolution& s = c.shape;
  const long run = s.kernel_columns * s.channels, tall = tiles(run, kPixels), number = panels(s.filters);
  const long per_panel = s.kernel_rows * tall;
  const Share own(number * per_panel, member, size);
  if (own.begin == own.end) return;
  const long left = s.left, right = highest((s.out_columns - 1) * s.column_stride + s.kernel_columns - left - s.columns, 0);
  const bool pads = left > 0 || right > 0;
  const long source_row = (left + s.columns + right) * s.channels;
  const long block = s.block_rows(), wide = 2 * kLanes;

  float* const totals = team.scratch() + member * c.member_scratch();   // of the member's tiles, kPixels * wide each
  float* const bias = totals + (own.end - own.begin) * kPixels * wide;  // of the panels
  float* const gradient = bias + number * wide;                        // of a block's pixels, panel by panel
  float* const padded_rows = gradient + number * block * s.out_columns * wide;
  memset(totals, 0, ((own.end - own.begin) * kPixels + number) * wide * sizeof(float));

  for (long image = 0; image < s.images; image++) {
    const float* const x = c.x + image * s.rows * s.columns * s.channels;
    for (long begin = 0; begin < s.out_rows; begin += block) {
      const long end = least(begin + block, s.out_rows), pixels = (end - begin) * s.out_columns;
      const long lowest = highest(begin * s.row_stride - s.top, 0);
      if (pads)
        for (long row = lowest; row < least((end - 1) * s.row_stride - s.top + s.kernel_rows, s.rows); row++)
          copy_row(x + row * s.columns * s.channels, nullptr, s.columns * s.channels, padded_rows + (row - lowest) * source_row,
                   left * s.channels, right * s.channels);
      const float* const source = pads ? padded_rows : x;
      const long origin = pads ? lowest : 0;  // the row that `source` begins with
      const long at = (image * s.out_rows + begin) * s.out_columns * s.filters;
      for (long panel = own.begin / per_panel; panel <= (own.end - 1) / per_panel; panel++)
        with_width(panel, s.filters, [&](auto width) __attribute__((always_inline)) {
          constexpr int N = decltype(width)::count;
          float* const g = gradient + panel * block * s.out_columns * wide;
          for (int j = 0; j < N; j++) {
            const long filter = panel * wide + j * kLanes, count = least(s.filters - filter, kLanes);
            Vec sum = {};
            for (long pixel = 0; pixel < pixels; pixel++) {
              Vec value = load(c.grad + at + pixel * s.filters + filter, count);
              if (s.relu) value = load(c.y + at + pixel * s.filters + filter, count) > 0.f ? value : Vec{};
              store(g + (pixel * N + j) * kLanes, value);
              sum += value;
            }
            float* const total = bias + panel * wide + j * kLanes;
            store(total, load(total) + sum);
          }
          for (long tile = highest(own.begin, panel * per_panel); tile < least(own.end, (panel + 1) * per_panel); tile++) {
            const long tap = tile % per_panel / tall;
            const Share part(run, tile % tall, tall);
            with_size<kPixels>(part.end - part.begin, part.begin, [&](long first, auto rows) __attribute__((always_inline)) {
              constexpr int M = decltype(rows)::count;
              Vec sums[M][N];
              clear(sums);
              for (long row = begin; row < end; row++) {
                const long from = row * s.row_stride - s.top + tap;
                if (from < 0 || from >= s.rows) continue;
                multiply_steps(source + (from - origin) * source_row + first, 1, s.column_stride * s.channels,
                               g + (row - begin) * s.out_columns * N * kLanes, s.out_columns, sums);
              }
              float* const total = totals + (tile - own.begin) * kPixels * wide;
              for (int i = 0; i < M; i++)
                for (int j = 0; j < N; j++) {
                  float* const to = total + (i * N + j) * kLanes;
                  store(to, load(to) + sums[i][j]);
                }
            });
          }
        });
    }
  }

  for (long tile = own.begin; tile < own.end; tile++) {
    const long panel = tile / per_panel, tap = tile % per_panel / tall, N = is_narrow(panel, s.filters) ? 1 : 2;
    const Share part(run, tile % tall, tall);
    for (long i = part.begin; i < part.end; i++)
      for (long j = 0; j < N; j++) {
        const long filter = panel * wide + j * kLanes;
        const float* const total = totals + (tile - own.begin) * kPixels * wide + ((i - part.begin) * N + j) * kLanes;
        store(c.d_kernel + (tap * run + i) * s.filters + filter, load(total), least(s.filters - filter, kLanes));
      }
    if (tile % per_panel == 0)
      for (long j = 0; j < N; j++) {
        const long filter = panel * wide + j * kLanes;
        store(c.d_bias + filter, load(bias + filter), least(s.filters - filter, kLanes));
      }
  }
}

}  // namespace fedloom::FEDLOOM_ISA
