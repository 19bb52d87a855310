// The GRU as XLA calls it: checks shapes, fills in arguments, runs the team.
#include "ffi_common.h"

namespace fedloom {
namespace {

ffi::Error gru_forward(Array x, Ids ids, Array h0, Array kernel, Array bias, Output hidden, Output z, Output r, Output candidate, Output inner,
                       bool reset_after, bool bfloat16) {
  if (h0.dimensions().size() != 2 || hidden->dimensions().size() != 3) return wrong_shape("gru_forward");
  const int64_t steps = hidden->dimensions()[0], batch = h0.dimensions()[0], units = h0.dimensions()[1];
  if (!has_inputs(x.dimensions(), ids, steps, batch, 3 * units) || !has_shape(kernel, {units, 3 * units}) || !has_shape(bias, {3 * units}) ||
      !has_shape(*hidden, {steps, batch, units}))
    return wrong_shape("gru_forward");
  return run(kernels().gru_forward,
             GruForward{steps, batch, units, reset_after, bfloat16, ids_or_null(ids), x.typed_data(), h0.typed_data(), kernel.typed_data(),
                        bias.typed_data(), hidden->typed_data(), z->typed_data(), r->typed_data(), candidate->typed_data(),
                        inner->typed_data()});
}

ffi::Error gru_backward(Array grad, Ids ids, Array h0, Array hidden, Array z, Array r, Array candidate, Array inner, Array kernel, Output dx,
                        Output d_inner, Output dh0, bool reset_after, bool bfloat16) {
  if (h0.dimensions().size() != 2 || grad.dimensions().size() != 3) return wrong_shape("gru_backward");
  const int64_t steps = grad.dimensions()[0], batch = h0.dimensions()[0], units = h0.dimensions()[1];
  const bool separate = reset_after || ids.element_count();  // whether the gradient of the input is an array of its own
  if (!has_shape(grad, {steps, batch, units}) || !has_shape(hidden, {steps, batch, units}) || !has_shape(kernel, {units, 3 * units}) ||
      !has_shape(*d_inner, {steps, batch, 3 * units}) || (separate && !has_inputs(dx->dimensions(), ids, steps, batch, 3 * units)))
    return wrong_shape("gru_backward");
  const int64_t ids_below = ids.element_count() ? dx->dimensions()[0] : 0;
  return run(kernels().gru_backward,
             GruBackward{steps, batch, units, reset_after, bfloat16, ids_or_null(ids), ids_below, grad.typed_data(), h0.typed_data(),
                         hidden.typed_data(), z.typed_data(), r.typed_data(), candidate.typed_data(), inner.typed_data(), kernel.typed_data(),
                         dx->typed_data(), d_inner->typed_data(), dh0->typed_data()});
}

}  // namespace
}  // namespace fedloom

#pragma GCC visibility push(default)

XLA_FFI_DEFINE_HANDLER_SYMBOL(fedloom_gru_forward, fedloom::gru_forward,
                              ffi::Ffi::Bind() FEDLOOM_ARRAYS_1 FEDLOOM_IDS FEDLOOM_ARRAYS_3 FEDLOOM_OUTPUTS_5.Attr<bool>("reset_after")
                                  .Attr<bool>("bfloat16"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(fedloom_gru_backward, fedloom::gru_backward,
                              ffi::Ffi::Bind() FEDLOOM_ARRAYS_1 FEDLOOM_IDS FEDLOOM_ARRAYS_4 FEDLOOM_ARRAYS_3 FEDLOOM_OUTPUTS_3
                                  .Attr<bool>("reset_after")
                                  .Attr<bool>("bfloat16"));

#pragma GCC visibility pop
