// The inner loop of every kernel: a few rows times a panel of a matrix, summed in registers.
#pragma once

#include "simd.h"

namespace fedloom::FEDLOOM_ISA {

// A panel holds some columns of a matrix, N vectors wide, row after row without gaps, so that it is read from the first number to the last.
// Every element of a product is summed from k = 0 on in one chain, however wide the vectors are and whoever computes it.

// sums[i][j] += sum over k of rows[i][k] * panel[k][j]; rows lie `stride` apart.
template <int M, int N>
FEDLOOM_INLINE void multiply(const float* rows, long stride, const float* panel, long depth, Vec (&sums)[M][N]) {
  for (long k = 0; k < depth; k++, panel += N * kLanes) {
    Vec columns[N];
#pragma GCC unroll 8
    for (int j = 0; j < N; j++) columns[j] = load(panel + j * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < M; i++) {
      const Vec left = broadcast(rows[i * stride + k]);
#pragma GCC unroll 8
      for (int j = 0; j < N; j++) sums[i][j] += left * columns[j];
    }
  }
}

template <int M, int N>
FEDLOOM_INLINE void clear(Vec (&sums)[M][N]) {
  for (int i = 0; i < M; i++)
    for (int j = 0; j < N; j++) sums[i][j] = Vec{};
}

template <int M>
struct Rows {
  static constexpr int count = M;
};

// Calls `f(first, Rows<M>{})` for tiles of at most M rows that cover `count` rows: as many of M as there are, then of M / 2, ...
template <int M, typename F>
FEDLOOM_INLINE void for_tiles(long first, long count, const F& f) {
  for (; first + M <= count; first += M) f(first, Rows<M>{});
  if constexpr (M > 1) {
    if (first < count) for_tiles<M / 2>(first, count, f);
  }
}

inline long tiles(long columns, long width) { return (columns + width - 1) / width; }

inline long least(long a, long b) { return a < b ? a : b; }

// A panel of the columns [first, first + width) of a matrix; those beyond `limit` are 0. `width` <= kLanes; panel rows are `panel_row` apart.
inline void pack(const float* matrix, long row, long depth, long first, long limit, float* panel, long panel_row) {
  const long count = least(limit - first, kLanes);
  for (long k = 0; k < depth; k++) store(panel + k * panel_row, load(matrix + k * row + first, count));
}

// The same of the transposed matrix: panel[k][j] = matrix[first + j][k].
inline void pack_transposed(const float* matrix, long row, long depth, long first, long limit, float* panel, long panel_row) {
  const long count = least(limit - first, kLanes);
  for (long k = 0; k < depth; k++) {
    Vec column = {};
    for (long j = 0; j < count; j++) column[j] = matrix[(first + j) * row + k];
    store(panel + k * panel_row, column);
  }
}

}  // namespace fedloom::FEDLOOM_ISA
