// The inner loop of every kernel: a few rows times a panel of a matrix, summed in registers.
#pragma once

#include "simd.h"

namespace fedloom::FEDLOOM_ISA {

// A panel holds some columns of a matrix, N vectors wide, row after row without gaps, so that it is read from the first number to the last.
// Every element of a product is summed from k = 0 on in one chain, however wide the vectors are and whoever computes it.

// How the two sides of a product are kept: as float32 here, rounded to bfloat16 in bfloat16.h. A sum advances by kDepth numbers at a time: a
// Left is so many neighbours in a row of the left side, a Cell so many neighbours in a column of the right side.
struct Float32 {
  using Left = float;
  using Cell = float;
  using Columns = Vec;
  static constexpr long kDepth = 1;

  static FEDLOOM_INLINE Columns columns(const Cell* panel) { return load(panel); }

  template <int N>
  static FEDLOOM_INLINE void add(Vec (&sums)[N], Left left, const Columns (&columns)[N]) {
    const Vec all = broadcast(left);
#pragma GCC unroll 8
    for (int j = 0; j < N; j++) sums[j] += all * columns[j];
  }

  // Cells of `count` <= kLanes columns from the rows that one step takes, of which `depth` are left; the other cells are 0.
  static FEDLOOM_INLINE void pack(const float* rows, long row, long depth, long count, Cell* cells) { store(cells, load(rows, count)); }

  // The same for a left side that lies transposed: its row k (and the next one, or null), as kRows Lefts.
  static FEDLOOM_INLINE void pack_lefts(const float* row, const float* next, long count, Left* lefts) {
    if (count < kRows) memset(lefts, 0, kRows * sizeof(Left));
    memcpy(lefts, row, (count == kRows ? kRows : count) * sizeof(float));
  }

  // Whether Lefts are what they are packed from, so that they need not be.
  static constexpr bool kAsItIs = true;
  static FEDLOOM_INLINE void keep(Vec value, long count, Left* row) { store(row, value, count); }
};

// sums[i][j] += sum over k of rows[i * stride + k * step] * panel[k][j], for `depth` steps.
template <typename Form, int M, int N>
FEDLOOM_INLINE void multiply_in(const typename Form::Left* rows, long stride, long step, const typename Form::Cell* panel, long depth,
                                Vec (&sums)[M][N]) {
  for (long k = 0; k < depth; k++, panel += N * kLanes) {
    typename Form::Columns columns[N];
#pragma GCC unroll 8
    for (int j = 0; j < N; j++) columns[j] = Form::columns(panel + j * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < M; i++) Form::add(sums[i], rows[i * stride + k * step], columns);
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

// Calls `f(first, Rows<M>{})` for tiles of at most M rows that cover the rows from `first` to `count`: as many of M as there are, then of M / 2, ...
template <int M, typename F>
FEDLOOM_INLINE void for_tiles(long first, long count, const F& f) {
  for (; first + M <= count; first += M) f(first, Rows<M>{});
  if constexpr (M > 1) {
    if (first < count) for_tiles<M / 2>(first, count, f);
  }
}

inline long tiles(long columns, long width) { return (columns + width - 1) / width; }

inline long least(long a, long b) { return a < b ? a : b; }

// Steps of a sum over `depth` numbers.
template <typename Form>
inline long steps_of(long depth) {
  return tiles(depth, Form::kDepth);
}

// A panel of the columns [first, first + kLanes) of a matrix; those from `limit` on are 0. Panel rows are `panel_row` apart.
template <typename Form>
inline void pack_in(const float* matrix, long row, long depth, long first, long limit, typename Form::Cell* panel, long panel_row) {
  const long count = least(limit - first, kLanes);
  for (long k = 0; k < depth; k += Form::kDepth, panel += panel_row) Form::pack(matrix + k * row + first, row, depth - k, count, panel);
}

inline void pack(const float* matrix, long row, long depth, long first, long limit, float* panel, long panel_row) {
  pack_in<Float32>(matrix, row, depth, first, limit, panel, panel_row);
}

// The same of the transposed matrix: panel[k][j] = matrix[first + j][k]. A line of every row at a time: rows often lie a multiple of 4096 bytes
// apart, and a cache keeps few lines of such addresses.
template <typename Form>
inline void pack_transposed_in(const float* matrix, long row, long depth, long first, long limit, typename Form::Cell* panel, long panel_row) {
  const long count = least(limit - first, kLanes);
  float block[kLanes][kLanes] = {}, turned[kLanes][kLanes] = {};
  for (long k = 0; k < depth; k += kLanes) {
    const long some = least(depth - k, kLanes);
    for (long j = 0; j < count; j++) store(block[j], load(matrix + (first + j) * row + k, some));
    for (long j = 0; j < kLanes; j++)
      for (long i = 0; i < kLanes; i++) turned[i][j] = block[j][i];
    for (long i = 0; i < some; i += Form::kDepth, panel += panel_row) Form::pack(turned[i], kLanes, some - i, kLanes, panel);
  }
}

inline void pack_transposed(const float* matrix, long row, long depth, long first, long limit, float* panel, long panel_row) {
  pack_transposed_in<Float32>(matrix, row, depth, first, limit, panel, panel_row);
}

}  // namespace fedloom::FEDLOOM_ISA
