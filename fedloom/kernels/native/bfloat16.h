// Products of operands rounded to bfloat16, in sums of float32: twice as fast where the processor has an instruction for it, half the memory
// elsewhere.
#pragma once

#include "product.h"

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace fedloom::FEDLOOM_ISA {

typedef uint32_t Bits __attribute__((vector_size(kLanes * 4)));

// To the nearest, ties to even, as the upper half of each lane. NaN stays NaN.
FEDLOOM_INLINE Bits rounded_to_bfloat16(Vec value) {
  const Bits bits = (Bits)value;
  const Bits rounded = bits + 0x7fff + ((bits >> 16) & 1);
  return (value == value ? rounded : bits | 0x400000) & 0xffff0000;
}

struct Bfloat16 {
  using Cell = uint32_t;  // two neighbours, the first in the lower half
  static constexpr long kDepth = 2;
  static constexpr bool kAsItIs = false;

  static FEDLOOM_INLINE Bits pair(Vec first, Vec second) { return rounded_to_bfloat16(first) >> 16 | rounded_to_bfloat16(second); }

  static FEDLOOM_INLINE void pack(const float* rows, long row, long depth, long count, Cell* cells) {
    const Bits both = pair(load(rows, count), depth > 1 ? load(rows + row, count) : Vec{});
    memcpy(cells, &both, sizeof both);
  }

#if defined(__AVX512BF16__)
  using Left = uint32_t;
  using Columns = Bits;

  static FEDLOOM_INLINE Columns columns(const Cell* panel) {
    Bits value;
    memcpy(&value, panel, sizeof value);
    return value;
  }

  template <int N>
  static FEDLOOM_INLINE void add(Vec (&sums)[N], Left left, const Columns (&columns)[N]) {
    const Bits all = Bits{} + left;
#pragma GCC unroll 8
    for (int j = 0; j < N; j++) sums[j] = (Vec)_mm512_dpbf16_ps((__m512)sums[j], (__m512bh)all, (__m512bh)columns[j]);
  }

  static FEDLOOM_INLINE void pack_lefts(const float* row, const float* next, long count, Left* lefts) {
    const Bits both = pair(load(row, count), next ? load(next, count) : Vec{});
    memcpy(lefts, &both, kRows * sizeof(Left));
  }

  // `count` numbers of a row, from an even place on; the other numbers of `value` must be 0.
  static FEDLOOM_INLINE void keep(Vec value, long count, Left* row) {
    typedef uint16_t Half __attribute__((vector_size(kLanes * 2)));
    const Half half = __builtin_convertvector(rounded_to_bfloat16(value) >> 16, Half);
    memcpy(row, &half, tiles(count, kDepth) * sizeof(Left));
  }
#else
  struct Left {
    float first, second;
  };
  struct Columns {
    Vec first, second;
  };

  static FEDLOOM_INLINE Columns columns(const Cell* panel) {
    Bits both;
    memcpy(&both, panel, sizeof both);
    return {(Vec)(both << 16), (Vec)(both & 0xffff0000)};
  }

  // The second number first, as the instruction has it.
  template <int N>
  static FEDLOOM_INLINE void add(Vec (&sums)[N], Left left, const Columns (&columns)[N]) {
    const Vec first = broadcast(left.first), second = broadcast(left.second);
#pragma GCC unroll 8
    for (int j = 0; j < N; j++) sums[j] = (sums[j] + second * columns[j].second) + first * columns[j].first;
  }

  static FEDLOOM_INLINE void pack_lefts(const float* row, const float* next, long count, Left* lefts) {
    float firsts[kRows] = {}, seconds[kRows] = {};
    for (long i = 0; i < count; i++) firsts[i] = rounded(row[i]);
    for (long i = 0; next && i < count; i++) seconds[i] = rounded(next[i]);
    for (long i = 0; i < kRows; i++) lefts[i] = {firsts[i], seconds[i]};
  }

  static FEDLOOM_INLINE float rounded(float value) { return ((Vec)rounded_to_bfloat16(broadcast(value)))[0]; }

  static FEDLOOM_INLINE void keep(Vec value, long count, Left* row) {
    const Bits bits = rounded_to_bfloat16(value);
    memcpy(row, &bits, tiles(count, kDepth) * sizeof(Left));
  }
#endif
};

}  // namespace fedloom::FEDLOOM_ISA
