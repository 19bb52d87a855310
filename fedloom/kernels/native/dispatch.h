// The kernels of the best instruction set that this machine has.
#pragma once

#include "kernels.h"

namespace fedloom {

const Kernels& kernels();

// Another instruction set, for tests; false if there is none of that name or the machine lacks it.
bool use_instruction_set(const char* name);

}  // namespace fedloom
