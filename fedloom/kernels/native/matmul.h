// A product of two matrices, either side as it is or transposed.
#pragma once

#include "bfloat16.h"
#include "kernels.h"

namespace fedloom::FEDLOOM_ISA {

// The columns are cut into panels, which stay in the second cache while all rows pass by; long sums are cut into blocks, which go on from where
// the last one stopped. A left side that does not lie as the inner loop reads it is packed by all members together.

constexpr long kPanel = 3;  // vectors

template <typename Form>
struct Multiplication {
  using Left = typename Form::Left;
  using Cell = typename Form::Cell;

  const Matmul& m;
  Team& team;
  const long member;
  const long size = least(team.size(), m.threads);  // members beyond have no scratch memory, and do nothing
  const bool packs_left = m.left_transposed || !Form::kAsItIs;
  Left* const lefts = reinterpret_cast<Left*>(team.scratch());
  Cell* const panel = reinterpret_cast<Cell*>(team.scratch() + m.left_scratch() + member * m.panel_scratch());

  void run() {
    for (long row = 0; row < m.rows; row += Matmul::kRowBlock)
      for (long from = 0; from < m.depth; from += Matmul::kDepthBlock)
        block(row, least(Matmul::kRowBlock, m.rows - row), from, least(Matmul::kDepthBlock, m.depth - from));
  }

  void block(long row, long rows, long from, long depth) {
    const long steps = steps_of<Form>(depth), vectors = tiles(m.columns, kLanes);
    if (packs_left) {
      team.barrier();  // nobody reads the last ones any more
      if (member < size) m.left_transposed ? pack_tiles(row, rows, from, depth, steps) : pack_rows(row, rows, from, depth, steps);
      team.barrier();
    }
    if (member >= size) return;
    const bool by_columns = vectors >= size * kPanel;
    const Share column(by_columns ? vectors : 1, member, size), tile(by_columns ? 1 : tiles(rows, kRows), member, size);
    const long last = by_columns ? column.end : vectors;
    const long first_row = by_columns ? 0 : tile.begin * kRows, end_row = by_columns ? rows : least(tile.end * kRows, rows);
    for (long vector = by_columns ? column.begin : 0; vector < last && first_row < end_row; vector += kPanel) {
      if (last - vector >= 3)
        panel_of<3>(row, first_row, end_row, from, depth, steps, vector);
      else if (last - vector == 2)
        panel_of<2>(row, first_row, end_row, from, depth, steps, vector);
      else
        panel_of<1>(row, first_row, end_row, from, depth, steps, vector);
    }
  }

  void pack_tiles(long row, long rows, long from, long depth, long steps) {
    const Share own(tiles(rows, kRows), member, size);
    for (long tile = own.begin; tile < own.end; tile++) {
      const long first = tile * kRows, count = least(kRows, rows - first);
      for (long step = 0; step < steps; step++) {
        const long k = from + step * Form::kDepth;
        Form::pack_lefts(left_row(k) + row + first, Form::kDepth > 1 && k + 1 < from + depth ? left_row(k + 1) + row + first : nullptr, count,
                         lefts + (tile * steps + step) * kRows);
      }
    }
  }

  const float* left_row(long k) const { return k < m.head_rows ? m.head + k * m.rows : m.left + (k - m.head_rows) * m.rows; }

  void pack_rows(long row, long rows, long from, long depth, long steps) {
    const Share own(rows, member, size);
    for (long i = own.begin; i < own.end; i++)
      for (long k = 0; k < depth; k += kLanes) {
        const long some = least(kLanes, depth - k);
        Form::keep(load(m.left + (row + i) * m.depth + from + k, some), some, lefts + i * steps + k / Form::kDepth);
      }
  }

  template <int N>
  void panel_of(long row, long first_row, long end_row, long from, long depth, long steps, long vector) {
    const long column = vector * kLanes;
    for (long j = 0; j < N; j++) {
      Cell* const cells = panel + j * kLanes;
      if (m.right_transposed)
        pack_transposed_in<Form>(m.right + from, m.depth, depth, column + j * kLanes, m.columns, cells, N * kLanes);
      else
        pack_in<Form>(m.right + from * m.columns, m.columns, depth, column + j * kLanes, m.columns, cells, N * kLanes);
    }
    float* const out = m.out + row * m.columns + column;
    const long columns = least(m.columns - column, N * kLanes);
    for_tiles<kRows>(first_row, end_row, [&](long first, auto tile) __attribute__((always_inline)) {
      constexpr int M = decltype(tile)::count;
      Vec sums[M][N];
      float* const to = out + first * m.columns;
      from == 0 ? clear(sums) : read(to, columns, sums);
      if (m.left_transposed)
        multiply_in<Form>(lefts + first / kRows * steps * kRows + first % kRows, 1, kRows, panel, steps, sums);
      else if constexpr (Form::kAsItIs)
        multiply_in<Form>(m.left + (row + first) * m.depth + from, m.depth, 1, panel, steps, sums);
      else
        multiply_in<Form>(lefts + first * steps, steps, 1, panel, steps, sums);
      write(to, columns, sums);
    });
  }

  template <int M, int N>
  FEDLOOM_INLINE void read(const float* from, long columns, Vec (&sums)[M][N]) const {
    for (long i = 0; i < M; i++)
      for (long j = 0; j < N; j++) sums[i][j] = load(from + i * m.columns + j * kLanes, least(columns - j * kLanes, kLanes));
  }

  template <int M, int N>
  FEDLOOM_INLINE void write(float* to, long columns, const Vec (&sums)[M][N]) const {
    for (long i = 0; i < M; i++)
      for (long j = 0; j < N; j++) store(to + i * m.columns + j * kLanes, sums[i][j], least(columns - j * kLanes, kLanes));
  }
};

inline void matmul(const Matmul& m, Team& team, long member) {
  if (m.depth == 0 && member == 0) memset(m.out, 0, m.rows * m.columns * sizeof(float));
  m.bfloat16 ? Multiplication<Bfloat16>{m, team, member}.run() : Multiplication<Float32>{m, team, member}.run();
}

}  // namespace fedloom::FEDLOOM_ISA
