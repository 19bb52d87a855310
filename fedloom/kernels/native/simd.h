// Vectors of float32 as wide as the instruction set has them, and the functions that gates need.
//
// This header and those that include it are compiled once per instruction set, each time in a namespace of its own (FEDLOOM_ISA). They use no
// templates of the standard library: the linker keeps one copy of such a function, which might be one that this machine cannot run.
#pragma once

#include <cstdint>
#include <cstring>

namespace fedloom::FEDLOOM_ISA {

#if defined(__AVX512F__)
constexpr long kLanes = 16;
constexpr int kRows = 8;  // of a tile of a product: as many accumulators as the registers hold
#elif defined(__AVX__)
constexpr long kLanes = 8;
constexpr int kRows = 4;
#elif defined(__aarch64__)
constexpr long kLanes = 4;
constexpr int kRows = 8;
#else
constexpr long kLanes = 4;
constexpr int kRows = 4;
#endif

#define FEDLOOM_INLINE inline __attribute__((always_inline))

typedef float Vec __attribute__((vector_size(kLanes * 4)));
typedef int32_t IntVec __attribute__((vector_size(kLanes * 4)));

FEDLOOM_INLINE Vec broadcast(float value) { return Vec{} + value; }

FEDLOOM_INLINE Vec load(const float* from) {
  Vec value;
  memcpy(&value, from, sizeof value);
  return value;
}

FEDLOOM_INLINE void store(float* to, Vec value) { memcpy(to, &value, sizeof value); }

// The first `count` numbers; the others are 0.
FEDLOOM_INLINE Vec load(const float* from, long count) {
  if (count == kLanes) return load(from);
  Vec value = {};
  memcpy(&value, from, count * sizeof(float));
  return value;
}

FEDLOOM_INLINE void store(float* to, Vec value, long count) {
  if (count == kLanes) return store(to, value);
  memcpy(to, &value, count * sizeof(float));
}

FEDLOOM_INLINE Vec absolute(Vec x) { return (Vec)((IntVec)x & 0x7fffffff); }

// e^x to 1 unit in the last place or two, for |x| <= 87; beyond, it stays at the ends of that range. NaN stays NaN.
// Cephes' expf: x = n ln 2 + r with |r| <= ln 2 / 2, a polynomial in r, times 2^n.
FEDLOOM_INLINE Vec exponential(Vec x) {
  x = x > 87.f ? broadcast(87.f) : x;
  x = x < -87.f ? broadcast(-87.f) : x;
  const float round = 12582912.f;  // 1.5 * 2^23: adding it leaves the nearest whole number in the lowest bits
  const Vec shifted = x * 1.44269504f + round;
  const Vec n = shifted - round;
  const Vec r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Vec p = broadcast(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.f;
  const IntVec exponent = ((IntVec)shifted << 23) + (127 << 23);  // the constant's own bits are shifted out
  return p * (Vec)exponent;
}

FEDLOOM_INLINE Vec sigmoid(Vec x) { return 1.f / (1.f + exponential(-x)); }

// Cephes' tanhf: a polynomial where 1 - 2 / (e^2x + 1) would lose digits.
FEDLOOM_INLINE Vec hyperbolic_tangent(Vec x) {
  const Vec size = absolute(x);
  const Vec squared = x * x;
  Vec p = broadcast(-5.70498872745e-3f);
  p = p * squared + 2.06390887954e-2f;
  p = p * squared + -5.37397155531e-2f;
  p = p * squared + 1.33314422036e-1f;
  p = p * squared + -3.33332819422e-1f;
  const Vec small = p * squared * x + x;
  const Vec large = 1.f - 2.f / (exponential(size + size) + 1.f);
  const Vec signed_large = x < 0.f ? -large : large;
  return size < 0.625f ? small : signed_large;
}

}  // namespace fedloom::FEDLOOM_ISA
