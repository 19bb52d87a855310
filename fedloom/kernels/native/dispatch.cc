#include "dispatch.h"

#include <atomic>
#include <cstring>

#include "instruction_sets.h"  // written by the build: FEDLOOM_INSTRUCTION_SETS(each), best first

namespace fedloom {

#define FEDLOOM_DECLARE(isa) extern const Kernels kernels_##isa;
FEDLOOM_INSTRUCTION_SETS(FEDLOOM_DECLARE)

namespace {

bool machine_has(const char* isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (strcmp(isa, "x86_64_v4_bf16") == 0) return machine_has("x86_64_v4") && __builtin_cpu_supports("avx512bf16");
  if (strcmp(isa, "x86_64_v4") == 0)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx2") &&
           __builtin_cpu_supports("fma");
  if (strcmp(isa, "x86_64_v3") == 0)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
#endif
  return strcmp(isa, "baseline") == 0;
}

const Kernels* best() {
#define FEDLOOM_TRY(isa) \
  if (machine_has(kernels_##isa.name)) return &kernels_##isa;
  FEDLOOM_INSTRUCTION_SETS(FEDLOOM_TRY)
  return nullptr;  // never: every build has a baseline
}

std::atomic<const Kernels*>& chosen() {
  static std::atomic<const Kernels*> table{best()};
  return table;
}

}  // namespace

const Kernels& kernels() { return *chosen().load(std::memory_order_relaxed); }

bool use_instruction_set(const char* name) {
#define FEDLOOM_USE(isa)                                                    \
  if (strcmp(name, kernels_##isa.name) == 0 && machine_has(kernels_##isa.name)) { \
    chosen().store(&kernels_##isa);                                         \
    return true;                                                            \
  }
  FEDLOOM_INSTRUCTION_SETS(FEDLOOM_USE)
  return false;
}

}  // namespace fedloom
