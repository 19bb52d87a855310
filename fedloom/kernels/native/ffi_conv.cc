// Convolutions and pooling as XLA calls them.
#include "ffi_common.h"

namespace fedloom {
namespace {

using Numbers = ffi::Span<const int64_t>;

Convolution convolution(Numbers x, Numbers kernel, Numbers y, Numbers strides, Numbers padding, bool relu) {
  return {x[0], x[1], x[2], x[3], kernel[0], kernel[1], kernel[3], y[1], y[2], strides[0], strides[1], padding[0], padding[1], relu};
}

bool fits(Numbers x, Numbers kernel, Numbers y, Numbers strides, Numbers padding) {
  if (x.size() != 4 || kernel.size() != 4 || y.size() != 4 || strides.size() != 2 || padding.size() != 2) return false;
  for (int side = 0; side < 2; side++)
    if (strides[side] < 1 || padding[side] < 0 || padding[side] >= kernel[side]) return false;
  return x[0] == y[0] && x[3] == kernel[2] && y[3] == kernel[3] && x[3] >= 1 && y[3] >= 1;
}

ffi::Error conv_forward(Array x, Array kernel, Array bias, Output y, Numbers strides, Numbers padding, bool relu) {
  if (!fits(x.dimensions(), kernel.dimensions(), y->dimensions(), strides, padding) || !has_shape(bias, {kernel.dimensions()[3]}))
    return wrong_shape("conv_forward");
  const ConvForward arguments{convolution(x.dimensions(), kernel.dimensions(), y->dimensions(), strides, padding, relu), x.typed_data(),
                              kernel.typed_data(), bias.typed_data(), y->typed_data()};
  return run(kernels().conv_forward, arguments);
}

ffi::Error conv_input_gradient(Array grad, Array y, Array kernel, Output dx, Numbers strides, Numbers padding, bool relu) {
  if (!fits(dx->dimensions(), kernel.dimensions(), grad.dimensions(), strides, padding) ||
      (relu && y.element_count() != grad.element_count()))
    return wrong_shape("conv_input_gradient");
  const ConvInputGradient arguments{convolution(dx->dimensions(), kernel.dimensions(), grad.dimensions(), strides, padding, relu),
                                    grad.typed_data(), y.typed_data(), kernel.typed_data(), dx->typed_data()};
  return run(kernels().conv_input_gradient, arguments);
}

ffi::Error conv_weight_gradient(Array x, Array grad, Array y, Output d_kernel, Output d_bias, Numbers strides, Numbers padding, bool relu) {
  if (!fits(x.dimensions(), d_kernel->dimensions(), grad.dimensions(), strides, padding) ||
      (relu && y.element_count() != grad.element_count()) || !has_shape(*d_bias, {grad.dimensions()[3]}))
    return wrong_shape("conv_weight_gradient");
  const ConvWeightGradient arguments{convolution(x.dimensions(), d_kernel->dimensions(), grad.dimensions(), strides, padding, relu),
                                     x.typed_data(), grad.typed_data(), y.typed_data(), d_kernel->typed_data(), d_bias->typed_data()};
  return run(kernels().conv_weight_gradient, arguments);
}

bool pools(Numbers x, Numbers y, Numbers window) {
  return x.size() == 4 && y.size() == 4 && window.size() == 2 && window[0] >= 1 && window[1] >= 1 && x[0] == y[0] && x[3] == y[3] &&
         x[1] / window[0] == y[1] && x[2] / window[1] == y[2];
}

ffi::Error max_pool_forward(Array x, Output y, Numbers window) {
  const Numbers from = x.dimensions(), to = y->dimensions();
  if (!pools(from, to, window)) return wrong_shape("max_pool_forward");
  return run(kernels().max_pool_forward,
             MaxPool{from[0], from[1], from[2], from[3], window[0], window[1], to[1], to[2], x.typed_data(), y->typed_data()});
}

ffi::Error max_pool_backward(Array x, Array grad, Output dx, Numbers window) {
  const Numbers from = x.dimensions(), to = grad.dimensions();
  if (!pools(from, to, window)) return wrong_shape("max_pool_backward");
  return run(kernels().max_pool_backward, MaxPoolGradient{from[0], from[1], from[2], from[3], window[0], window[1], to[1], to[2],
                                                          x.typed_data(), grad.typed_data(), dx->typed_data()});
}

}  // namespace
}  // namespace fedloom

#define FEDLOOM_CONV_ATTRIBUTES \
  .Attr<ffi::Span<const int64_t>>("strides").Attr<ffi::Span<const int64_t>>("padding").Attr<bool>("relu")

#pragma GCC visibility push(default)

XLA_FFI_DEFINE_HANDLER_SYMBOL(fedloom_conv_forward, fedloom::conv_forward,
                              ffi::Ffi::Bind() FEDLOOM_ARRAYS_3 FEDLOOM_OUTPUTS_1 FEDLOOM_CONV_ATTRIBUTES);
XLA_FFI_DEFINE_HANDLER_SYMBOL(fedloom_conv_input_gradient, fedloom::conv_input_gradient,
                              ffi::Ffi::Bind() FEDLOOM_ARRAYS_3 FEDLOOM_OUTPUTS_1 FEDLOOM_CONV_ATTRIBUTES);
XLA_FFI_DEFINE_HANDLER_SYMBOL(fedloom_conv_weight_gradient, fedloom::conv_weight_gradient,
                              ffi::Ffi::Bind() FEDLOOM_ARRAYS_3 FEDLOOM_OUTPUTS_1 FEDLOOM_OUTPUTS_1 FEDLOOM_CONV_ATTRIBUTES);
XLA_FFI_DEFINE_HANDLER_SYMBOL(fedloom_max_pool_forward, fedloom::max_pool_forward,
                              ffi::Ffi::Bind() FEDLOOM_ARRAYS_1 FEDLOOM_OUTPUTS_1.Attr<ffi::Span<const int64_t>>("window"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(fedloom_max_pool_backward, fedloom::max_pool_backward,
                              ffi::Ffi::Bind() FEDLOOM_ARRAYS_1 FEDLOOM_ARRAYS_1 FEDLOOM_OUTPUTS_1.Attr<ffi::Span<const int64_t>>("window"));

#pragma GCC visibility pop
