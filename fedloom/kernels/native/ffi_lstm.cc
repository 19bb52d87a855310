// The LSTM as XLA calls it: checks shapes, fills in arguments, runs the team.
#include "ffi_common.h"

namespace fedloom {
namespace {

const float* mask_or_null(const Array& mask) { return mask.element_count() == 0 ? nullptr : mask.typed_data(); }

ffi::Error lstm_forward(Array x, Ids ids, Array h0, Array c0, Array kernel, Array mask, Output gates, Output hidden, Output cells,
                        bool bfloat16) {
  if (h0.dimensions().size() != 2 || hidden->dimensions().size() != 3) return wrong_shape("lstm_forward");
  const int64_t steps = hidden->dimensions()[0], batch = h0.dimensions()[0], units = h0.dimensions()[1];
  if (!has_inputs(x.dimensions(), ids, steps, batch, 4 * units) || !has_shape(c0, {batch, units}) || !has_shape(kernel, {units, 4 * units}) ||
      !(has_shape(mask, {steps, batch}) || has_shape(mask, {0})) || !has_shape(*gates, {steps, batch, 4 * units}) ||
      !has_shape(*hidden, {steps, batch, units}) || !has_shape(*cells, {steps, batch, units}))
    return wrong_shape("lstm_forward");
  return run(kernels().lstm_forward,
             LstmForward{steps, batch, units, bfloat16, ids_or_null(ids), x.typed_data(), h0.typed_data(), c0.typed_data(),
                         kernel.typed_data(), mask_or_null(mask), hidden->typed_data(), cells->typed_data(), gates->typed_data()});
}

ffi::Error lstm_backward(Array gates, Ids ids, Array grad, Array grad_cell, Array c0, Array cells, Array kernel, Array mask, Output dx,
                         Output dx_of_ids, Output dh0, Output dc0, bool bfloat16) {
  if (c0.dimensions().size() != 2 || grad.dimensions().size() != 3) return wrong_shape("lstm_backward");
  const int64_t steps = grad.dimensions()[0], batch = c0.dimensions()[0], units = c0.dimensions()[1];
  if (!has_shape(grad, {steps, batch, units}) || !has_shape(cells, {steps, batch, units}) || !has_shape(grad_cell, {batch, units}) ||
      !has_shape(gates, {steps, batch, 4 * units}) || !has_shape(kernel, {units, 4 * units}) ||
      !(has_shape(mask, {steps, batch}) || has_shape(mask, {0})) || !has_shape(*dx, {steps, batch, 4 * units}) ||
      (ids.element_count() && !has_inputs(dx_of_ids->dimensions(), ids, steps, batch, 4 * units)) || !has_shape(*dh0, {batch, units}) ||
      !has_shape(*dc0, {batch, units}))
    return wrong_shape("lstm_backward");
  const int64_t ids_below = ids.element_count() ? dx_of_ids->dimensions()[0] : 0;
  return run(kernels().lstm_backward,
             LstmBackward{steps, batch, units, bfloat16, ids_or_null(ids), ids_below, grad.typed_data(), grad_cell.typed_data(),
                          c0.typed_data(), cells.typed_data(), gates.typed_data(), kernel.typed_data(), mask_or_null(mask),
                          dx->typed_data(), dx_of_ids->typed_data(), dh0->typed_data(), dc0->typed_data()});
}

}  // namespace
}  // namespace fedloom

#pragma GCC visibility push(default)

XLA_FFI_DEFINE_HANDLER_SYMBOL(fedloom_lstm_forward, fedloom::lstm_forward,
                              ffi::Ffi::Bind() FEDLOOM_ARRAYS_1 FEDLOOM_IDS FEDLOOM_ARRAYS_4 FEDLOOM_OUTPUTS_3.Attr<bool>("bfloat16"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(fedloom_lstm_backward, fedloom::lstm_backward,
                              ffi::Ffi::Bind() FEDLOOM_ARRAYS_1 FEDLOOM_IDS FEDLOOM_ARRAYS_4 FEDLOOM_ARRAYS_1 FEDLOOM_ARRAYS_1
                                  FEDLOOM_OUTPUTS_1 FEDLOOM_OUTPUTS_3.Attr<bool>("bfloat16"));

#pragma GCC visibility pop
