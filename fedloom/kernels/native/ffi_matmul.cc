// Products as XLA calls them: checks shapes, fills in arguments, runs the team.
#include "ffi_common.h"

namespace fedloom {
namespace {

ffi::Error matmul(Array head, Array left, Array right, Output out, bool left_transposed, bool right_transposed, bool bfloat16) {
  if (head.dimensions().size() != 2 || left.dimensions().size() != 2 || right.dimensions().size() != 2 || out->dimensions().size() != 2)
    return wrong_shape("matmul");
  const int64_t rows = out->dimensions()[0], columns = out->dimensions()[1], head_rows = head.dimensions()[0];
  const int64_t depth = right.dimensions()[right_transposed ? 1 : 0];
  // A left side that begins with rows of another array may have more rows of its own than are used.
  const bool left_fits = left_transposed ? left.dimensions()[1] == rows && left.dimensions()[0] >= depth - head_rows && head_rows <= depth &&
                                               (head_rows == 0 || head.dimensions()[1] == rows)
                                         : has_shape(left, {rows, depth}) && head_rows == 0;
  if (!left_fits || right.dimensions()[right_transposed ? 0 : 1] != columns) return wrong_shape("matmul");
  return run(kernels().matmul, Matmul{rows, columns, depth, left_transposed, right_transposed, bfloat16, head_rows, head.typed_data(),
                                      left.typed_data(), right.typed_data(), out->typed_data()});
}

}  // namespace
}  // namespace fedloom

#pragma GCC visibility push(default)

XLA_FFI_DEFINE_HANDLER_SYMBOL(fedloom_matmul, fedloom::matmul,
                              ffi::Ffi::Bind() FEDLOOM_ARRAYS_3 FEDLOOM_OUTPUTS_1.Attr<bool>("left_transposed")
                                  .Attr<bool>("right_transposed")
                                  .Attr<bool>("bfloat16"));

#pragma GCC visibility pop
