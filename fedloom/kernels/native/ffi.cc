// The kernels as XLA calls them: checks shapes, fills in arguments, runs the team.
#include "ffi_common.h"

namespace fedloom {
namespace {

ffi::Error gru_forward(Array x, Array h0, Array kernel, Array bias, Output hidden, Output z, Output r, Output candidate, Output inner,
                       bool reset_after) {
  if (h0.dimensions().size() != 2 || x.dimensions().size() != 3) return wrong_shape("gru_forward");
  const int64_t steps = x.dimensions()[0], batch = h0.dimensions()[0], units = h0.dimensions()[1];
  if (!has_shape(x, {steps, batch, 3 * units}) || !has_shape(kernel, {units, 3 * units}) || !has_shape(bias, {3 * units}) ||
      !has_shape(*hidden, {steps, batch, units}))
    return wrong_shape("gru_forward");
  return run(kernels().gru_forward,
             GruForward{steps, batch, units, reset_after, x.typed_data(), h0.typed_data(), kernel.typed_data(), bias.typed_data(),
                        hidden->typed_data(), z->typed_data(), r->typed_data(), candidate->typed_data(), inner->typed_data()});
}

ffi::Error gru_backward(Array grad, Array h0, Array hidden, Array z, Array r, Array candidate, Array inner, Array kernel, Output dx,
                        Output d_inner, Output dh0, bool reset_after) {
  if (h0.dimensions().size() != 2 || grad.dimensions().size() != 3) return wrong_shape("gru_backward");
  const int64_t steps = grad.dimensions()[0], batch = h0.dimensions()[0], units = h0.dimensions()[1];
  if (!has_shape(grad, {steps, batch, units}) || !has_shape(hidden, {steps, batch, units}) || !has_shape(kernel, {units, 3 * units}) ||
      !has_shape(*dx, {steps, batch, 3 * units}))
    return wrong_shape("gru_backward");
  return run(kernels().gru_backward,
             GruBackward{steps, batch, units, reset_after, grad.typed_data(), h0.typed_data(), hidden.typed_data(), z.typed_data(),
                         r.typed_data(), candidate.typed_data(), inner.typed_data(), kernel.typed_data(), dx->typed_data(),
                         d_inner->typed_data(), dh0->typed_data()});
}

const float* mask_or_null(const Array& mask) { return mask.element_count() == 0 ? nullptr : mask.typed_data(); }

ffi::Error lstm_forward(Array x, Array h0, Array c0, Array kernel, Array mask, Output gates, Output hidden, Output cells) {
  if (h0.dimensions().size() != 2 || x.dimensions().size() != 3) return wrong_shape("lstm_forward");
  const int64_t steps = x.dimensions()[0], batch = h0.dimensions()[0], units = h0.dimensions()[1];
  if (!has_shape(x, {steps, batch, 4 * units}) || !has_shape(c0, {batch, units}) || !has_shape(kernel, {units, 4 * units}) ||
      !(has_shape(mask, {steps, batch}) || has_shape(mask, {0})) || !has_shape(*gates, {steps, batch, 4 * units}) ||
      !has_shape(*hidden, {steps, batch, units}) || !has_shape(*cells, {steps, batch, units}))
    return wrong_shape("lstm_forward");
  return run(kernels().lstm_forward,
             LstmForward{steps, batch, units, x.typed_data(), h0.typed_data(), c0.typed_data(), kernel.typed_data(), mask_or_null(mask),
                         hidden->typed_data(), cells->typed_data(), gates->typed_data()});
}

ffi::Error lstm_backward(Array gates, Array grad, Array grad_cell, Array c0, Array cells, Array kernel, Array mask, Output dx, Output dh0,
                         Output dc0) {
  if (c0.dimensions().size() != 2 || grad.dimensions().size() != 3) return wrong_shape("lstm_backward");
  const int64_t steps = grad.dimensions()[0], batch = c0.dimensions()[0], units = c0.dimensions()[1];
  if (!has_shape(grad, {steps, batch, units}) || !has_shape(cells, {steps, batch, units}) || !has_shape(grad_cell, {batch, units}) ||
      !has_shape(gates, {steps, batch, 4 * units}) || !has_shape(kernel, {units, 4 * units}) ||
      !(has_shape(mask, {steps, batch}) || has_shape(mask, {0})) || !has_shape(*dx, {steps, batch, 4 * units}) ||
      !has_shape(*dh0, {batch, units}) || !has_shape(*dc0, {batch, units}))
    return wrong_shape("lstm_backward");
  return run(kernels().lstm_backward,
             LstmBackward{steps, batch, units, grad.typed_data(), grad_cell.typed_data(), c0.typed_data(), cells.typed_data(),
                          gates.typed_data(), kernel.typed_data(), mask_or_null(mask), dx->typed_data(), dh0->typed_data(),
                          dc0->typed_data()});
}

}  // namespace
}  // namespace fedloom

#define FEDLOOM_ARRAYS_5 FEDLOOM_ARRAYS_4 FEDLOOM_ARRAYS_1
#define FEDLOOM_ARRAYS_7 FEDLOOM_ARRAYS_5 FEDLOOM_ARRAYS_1 FEDLOOM_ARRAYS_1

#pragma GCC visibility push(default)

XLA_FFI_DEFINE_HANDLER_SYMBOL(fedloom_gru_forward, fedloom::gru_forward,
                              ffi::Ffi::Bind() FEDLOOM_ARRAYS_4 FEDLOOM_OUTPUTS_5.Attr<bool>("reset_after"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(fedloom_gru_backward, fedloom::gru_backward,
                              ffi::Ffi::Bind() FEDLOOM_ARRAYS_8 FEDLOOM_OUTPUTS_3.Attr<bool>("reset_after"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(fedloom_lstm_forward, fedloom::lstm_forward, ffi::Ffi::Bind() FEDLOOM_ARRAYS_5 FEDLOOM_OUTPUTS_3);
XLA_FFI_DEFINE_HANDLER_SYMBOL(fedloom_lstm_backward, fedloom::lstm_backward, ffi::Ffi::Bind() FEDLOOM_ARRAYS_7 FEDLOOM_OUTPUTS_3);

extern "C" const char* fedloom_instruction_set() { return fedloom::kernels().name; }
extern "C" int fedloom_use_instruction_set(const char* name) {
  return fedloom::use_instruction_set(name);
}
extern "C" long fedloom_threads() { return fedloom::Team::threads(); }
extern "C" void fedloom_set_threads(long n) { fedloom::Team::set_threads(n); }

#pragma GCC visibility pop
