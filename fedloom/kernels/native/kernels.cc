// Compiled once per instruction set, as FEDLOOM_ISA.
#include "kernels.h"

#include "gru.h"

namespace fedloom {

#define FEDLOOM_STRING_OF(name) #name
#define FEDLOOM_STRING(name) FEDLOOM_STRING_OF(name)
#define FEDLOOM_TABLE_OF(isa) kernels_##isa
#define FEDLOOM_TABLE(isa) FEDLOOM_TABLE_OF(isa)

extern const Kernels FEDLOOM_TABLE(FEDLOOM_ISA);
const Kernels FEDLOOM_TABLE(FEDLOOM_ISA) = {
    FEDLOOM_STRING(FEDLOOM_ISA),
    FEDLOOM_ISA::gru_forward,
    FEDLOOM_ISA::gru_backward,
};

}  // namespace fedloom
