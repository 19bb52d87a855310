// The kernels as XLA calls them (https://docs.jax.dev/en/latest/ffi.html): checks shapes, fills in arguments, runs the team.
#include <algorithm>
#include <initializer_list>
#include <new>
#include <string>

#include "dispatch.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace fedloom {
namespace {

using Array = ffi::Buffer<ffi::F32>;
using Output = ffi::Result<ffi::Buffer<ffi::F32>>;

template <typename Arguments>
struct Job {
  void (*kernel)(const Arguments&, Team&, long);
  const Arguments& arguments;

  static void work(void* job, Team& team, long member) {
    const Job& self = *static_cast<Job*>(job);
    self.kernel(self.arguments, team, member);
  }
};

template <typename Arguments>
ffi::Error run(void (*kernel)(const Arguments&, Team&, long), const Arguments& arguments) {
  Job<Arguments> job{kernel, arguments};
  try {
    Team::run(Job<Arguments>::work, &job, arguments.scratch());
  } catch (const std::bad_alloc&) {
    return ffi::Error(ffi::ErrorCode::kResourceExhausted, "fedloom: no memory for a kernel's packed weights");
  }
  return ffi::Error::Success();
}

template <typename Buffer>
bool has_shape(const Buffer& buffer, std::initializer_list<int64_t> shape) {
  const auto dimensions = buffer.dimensions();
  return dimensions.size() == shape.size() && std::equal(dimensions.begin(), dimensions.end(), shape.begin());
}

ffi::Error wrong_shape(const char* kernel) {
  return ffi::Error(ffi::ErrorCode::kInvalidArgument, std::string("fedloom: shapes of ") + kernel + " do not fit together");
}

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

}  // namespace
}  // namespace fedloom

#define FEDLOOM_ARRAYS_1 .Arg<fedloom::Array>()
#define FEDLOOM_ARRAYS_4 FEDLOOM_ARRAYS_1 FEDLOOM_ARRAYS_1 FEDLOOM_ARRAYS_1 FEDLOOM_ARRAYS_1
#define FEDLOOM_ARRAYS_8 FEDLOOM_ARRAYS_4 FEDLOOM_ARRAYS_4
#define FEDLOOM_OUTPUTS_1 .Ret<ffi::Buffer<ffi::F32>>()
#define FEDLOOM_OUTPUTS_3 FEDLOOM_OUTPUTS_1 FEDLOOM_OUTPUTS_1 FEDLOOM_OUTPUTS_1
#define FEDLOOM_OUTPUTS_5 FEDLOOM_OUTPUTS_3 FEDLOOM_OUTPUTS_1 FEDLOOM_OUTPUTS_1

#pragma GCC visibility push(default)

XLA_FFI_DEFINE_HANDLER_SYMBOL(fedloom_gru_forward, fedloom::gru_forward,
                              ffi::Ffi::Bind() FEDLOOM_ARRAYS_4 FEDLOOM_OUTPUTS_5.Attr<bool>("reset_after"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(fedloom_gru_backward, fedloom::gru_backward,
                              ffi::Ffi::Bind() FEDLOOM_ARRAYS_8 FEDLOOM_OUTPUTS_3.Attr<bool>("reset_after"));

extern "C" const char* fedloom_instruction_set() { return fedloom::kernels().name; }
extern "C" int fedloom_use_instruction_set(const char* name) {
  return fedloom::use_instruction_set(name);
}
extern "C" long fedloom_threads() { return fedloom::Team::threads(); }
extern "C" void fedloom_set_threads(long n) { fedloom::Team::set_threads(n); }

#pragma GCC visibility pop
