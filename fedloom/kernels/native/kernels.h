// What there is in every instruction set: the arguments of each kernel, and the table of those that one instruction set has.
#pragma once

#include <cstdint>

#include "team.h"

namespace fedloom {

// Arrays are dense, float32, in C order; sequences are (steps, batch, ...). Names and equations are those of the reference in Python.
// Units rounded up to whole panels of any instruction set.
inline size_t padded(long units, long panel = 32) { return (units + panel - 1) / panel * panel; }

// With `ids`, the input of a row is the row of `x` that its id names, and gradients of the input are sums over the rows with that id.
struct GruForward {
  long steps, batch, units;
  bool reset_after;
  bool bfloat16;  // whether both sides of the products are rounded to bfloat16
  const int32_t* ids;  // (steps, batch), or null
  const float *x, *h0, *kernel, *bias;  // (steps, batch, 3 units) or (ids_below, 3 units), (batch, units), (units, 3 units), (3 units,)
  float *hidden, *z, *r, *candidate, *inner;  // (steps, batch, units) each; `inner` is empty unless reset_after

  size_t scratch() const { return 3 * (units + 1) * padded(units) + 6 * batch * (units + 1); }  // floats
};

struct GruBackward {
  long steps, batch, units;
  bool reset_after, bfloat16;
  const int32_t* ids;
  long ids_below;
  const float *grad, *h0, *hidden, *z, *r, *candidate, *inner, *kernel;
  // (steps, batch, 3 units) or (ids_below, 3 units), (steps, batch, 3 units), (batch, units). `dx` is empty without ids where the reset gate acts
  // before the product, as it is `d_inner` then.
  float *dx, *d_inner, *dh0;

  size_t scratch() const { return 3 * (units + 1) * padded(units) + 6 * batch * (units + 1); }
};

// out = left @ right. A transposed left side, (depth, rows), may begin with rows of another array.
struct Matmul {
  long rows, columns, depth;
  bool left_transposed, right_transposed;
  bool bfloat16;  // whether both sides are rounded to bfloat16
  long head_rows;  // of `head`, which a transposed left side begins with
  const float *head, *left, *right;
  float* out;
  long threads = Team::threads();  // with scratch memory of their own

  static constexpr long kRowBlock = 2048, kDepthBlock = 1024;
  size_t left_scratch() const {  // floats
    const long left_rows = rows < kRowBlock ? rows : kRowBlock, left_depth = depth < kDepthBlock ? depth : kDepthBlock;
    return left_transposed || bfloat16 ? padded(left_rows) * (left_depth + 1) : 0;
  }
  size_t panel_scratch() const { return 3 * 16 * ((depth < kDepthBlock ? depth : kDepthBlock) + 1); }
  size_t scratch() const { return left_scratch() + threads * panel_scratch(); }
};

struct LstmForward {
  long steps, batch, units;
  bool bfloat16;
  const int32_t* ids;
  // (steps, batch, 4 units) or (ids_below, 4 units), (batch, units) twice, (units, 4 units), (steps, batch) or null
  const float *x, *h0, *c0, *kernel, *mask;
  float *hidden, *cells, *gates;  // (steps, batch, units) twice, (steps, batch, 4 units); `gates` may be `x`

  size_t scratch() const { return 4 * (units + 1) * padded(units) + 2 * batch * (units + 1); }
};

struct LstmBackward {
  long steps, batch, units;
  bool bfloat16;
  const int32_t* ids;
  long ids_below;
  const float *grad, *grad_cell, *c0, *cells, *gates, *kernel, *mask;
  float *dx, *dx_of_ids, *dh0, *dc0;  // (steps, batch, 4 units), (ids_below, 4 units), (batch, units) twice; `dx` may be `gates`

  size_t scratch() const { return 4 * (units + 1) * padded(units, 64) + 8 * batch * (units + 1); }
};

// The shapes of a convolution, with zeros around the input: `top` rows above it and `left` columns beside it, and as many on the other sides as
// the last windows need.
struct Convolution {
  long images, rows, columns, channels, kernel_rows, kernel_columns, filters, out_rows, out_columns;
  long row_stride, column_stride, top, left;
  bool relu;

  // Floats of scratch memory: the packed kernel, and for every member an image with its zeros.
  size_t packed(long across) const { return kernel_rows * kernel_columns * (filters * channels / across) * padded(across); }
  size_t padded_image() const {
    const long wide = (out_columns + kernel_columns) * column_stride + columns + left + kernel_columns;
    return padded(highest(rows * channels, out_rows * filters) * wide);
  }
  static long highest(long a, long b) { return a > b ? a : b; }

  long block_rows() const { return highest(96 / highest(out_columns, 1), 1); }  // of the output that a weight gradient is summed over at a time
};

struct ConvForward {
  Convolution shape;
  const float *x, *kernel, *bias;  // (images, rows, columns, channels), (kernel rows, kernel columns, channels, filters), (filters,)
  float* y;                        // (images, out rows, out columns, filters)
  long threads = Team::threads();  // with scratch memory of their own

  size_t scratch() const { return shape.packed(shape.filters) + threads * shape.padded_image(); }
};

struct ConvInputGradient {
  Convolution shape;
  const float *grad, *y, *kernel;  // `y` is not read unless there is a relu
  float* dx;
  long threads = Team::threads();

  size_t scratch() const { return shape.packed(shape.channels) + threads * shape.padded_image(); }
};

struct ConvWeightGradient {
  Convolution shape;
  const float *x, *grad, *y;
  float *d_kernel, *d_bias;
  long threads = Team::threads();

  size_t scratch() const { return threads * member_scratch(); }
  size_t member_scratch() const {
    const long taps = shape.kernel_rows * (shape.kernel_columns * shape.channels + 12);  // in whole tiles
    return padded(padded(shape.filters) * (taps + 1 + shape.block_rows() * shape.out_columns) + shape.padded_image());
  }
};

struct MaxPool {
  long images, rows, columns, channels, window_rows, window_columns, out_rows, out_columns;
  const float* x;
  float* y;

  size_t scratch() const { return 0; }
};

struct MaxPoolGradient {
  long images, rows, columns, channels, window_rows, window_columns, out_rows, out_columns;
  const float *x, *grad;
  float* dx;

  size_t scratch() const { return 0; }
};

struct Kernels {
  const char* name;
  void (*gru_forward)(const GruForward&, Team&, long member);
  void (*gru_backward)(const GruBackward&, Team&, long member);
  void (*lstm_forward)(const LstmForward&, Team&, long member);
  void (*lstm_backward)(const LstmBackward&, Team&, long member);
  void (*matmul)(const Matmul&, Team&, long member);
  void (*conv_forward)(const ConvForward&, Team&, long member);
  void (*conv_input_gradient)(const ConvInputGradient&, Team&, long member);
  void (*conv_weight_gradient)(const ConvWeightGradient&, Team&, long member);
  void (*max_pool_forward)(const MaxPool&, Team&, long member);
  void (*max_pool_backward)(const MaxPoolGradient&, Team&, long member);
};

}  // namespace fedloom
