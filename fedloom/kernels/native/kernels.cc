// Compiled once per instruction set, as FEDLOOM_ISA.
#include "kernels.h"

#include "conv.h"
#include "gru.h"
#include "lstm.h"
#include "matmul.h"
#include "pool.h"

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
    FEDLOOM_ISA::lstm_forward,
    FEDLOOM_ISA::lstm_backward,
    FEDLOOM_ISA::matmul,
    FEDLOOM_ISA::conv_forward,
    FEDLOOM_ISA::conv_input_gradient,
    FEDLOOM_ISA::conv_weight_gradient,
    FEDLOOM_ISA::max_pool_forward,
    FEDLOOM_ISA::max_pool_backward,
};

}  // namespace fedloom
