// What the library says about itself.
#include "dispatch.h"

#pragma GCC visibility push(default)

extern "C" const char* fedloom_instruction_set() { return fedloom::kernels().name; }
extern "C" int fedloom_use_instruction_set(const char* name) {
  return fedloom::use_instruction_set(name);
}
extern "C" long fedloom_threads() { return fedloom::Team::threads(); }
extern "C" void fedloom_set_threads(long n) { fedloom::Team::set_threads(n); }

#pragma GCC visibility pop
