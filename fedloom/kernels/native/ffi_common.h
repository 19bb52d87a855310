// What every family of kernels needs to be called by XLA (https://docs.jax.dev/en/latest/ffi.html).
#pragma once

#include <algorithm>
#include <initializer_list>
#include <new>
#include <string>

#include "dispatch.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace fedloom {
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

inline ffi::Error wrong_shape(const char* kernel) {
  return ffi::Error(ffi::ErrorCode::kInvalidArgument, std::string("fedloom: shapes of ") + kernel + " do not fit together");
}

using Ids = ffi::Buffer<ffi::S32>;

inline const int32_t* ids_or_null(const Ids& ids) { return ids.element_count() ? ids.typed_data() : nullptr; }

// Whether this is the shape of inputs by step, or of those by id.
inline bool has_inputs(const ffi::Span<const int64_t>& shape, const Ids& ids, int64_t steps, int64_t batch, int64_t gates) {
  if (ids.element_count()) return has_shape(ids, {steps, batch}) && shape.size() == 2 && shape[1] == gates;
  return shape.size() == 3 && shape[0] == steps && shape[1] == batch && shape[2] == gates;
}

}  // namespace fedloom

#define FEDLOOM_IDS .Arg<fedloom::Ids>()
#define FEDLOOM_ARRAYS_1 .Arg<fedloom::Array>()
#define FEDLOOM_ARRAYS_3 FEDLOOM_ARRAYS_1 FEDLOOM_ARRAYS_1 FEDLOOM_ARRAYS_1
#define FEDLOOM_ARRAYS_4 FEDLOOM_ARRAYS_3 FEDLOOM_ARRAYS_1
#define FEDLOOM_ARRAYS_8 FEDLOOM_ARRAYS_4 FEDLOOM_ARRAYS_4
#define FEDLOOM_OUTPUTS_1 .Ret<ffi::Buffer<ffi::F32>>()
#define FEDLOOM_OUTPUTS_3 FEDLOOM_OUTPUTS_1 FEDLOOM_OUTPUTS_1 FEDLOOM_OUTPUTS_1
#define FEDLOOM_OUTPUTS_5 FEDLOOM_OUTPUTS_3 FEDLOOM_OUTPUTS_1 FEDLOOM_OUTPUTS_1
