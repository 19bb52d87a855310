// What there is in every instruction set: the arguments of each kernel, and the table of those that one instruction set has.
#pragma once

#include "team.h"

namespace fedloom {

// Arrays are dense, float32, in C order; sequences are (steps, batch, ...). Names and equations are those of the reference in Python.
// Units rounded up to whole panels of any instruction set.
inline size_t padded(long units) { return (units + 31) / 32 * 32; }

struct GruForward {
  long steps, batch, units;
  bool reset_after;
  const float *x, *h0, *kernel, *bias;  // (steps, batch, 3 units), (batch, units), (units, 3 units), (3 units,)
  float *hidden, *z, *r, *candidate, *inner;  // (steps, batch, units) each; `inner` is null unless reset_after

  size_t scratch() const { return 3 * units * padded(units) + batch * units; }  // floats
};

struct GruBackward {
  long steps, batch, units;
  bool reset_after;
  const float *grad, *h0, *hidden, *z, *r, *candidate, *inner, *kernel;
  float *dx, *d_inner, *dh0;  // (steps, batch, 3 units) twice, (batch, units); `d_inner` is null unless reset_after

  size_t scratch() const { return 3 * units * padded(units); }
};

struct Kernels {
  const char* name;
  void (*gru_forward)(const GruForward&, Team&, long member);
  void (*gru_backward)(const GruBackward&, Team&, long member);
};

}  // namespace fedloom
