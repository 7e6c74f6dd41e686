/* The products that round float32 to bfloat16, of one ISA. */
#include "kernels/bfloat16_kernels.h"

extern const dlc_bfloat16_kernels DLC_BFLOAT16_NAME(dlc_bfloat16_kernels);

const dlc_bfloat16_kernels DLC_BFLOAT16_NAME(dlc_bfloat16_kernels) = {
#ifdef DLC_HAVE_PAIRS
    .kind = "native",
#else
    .kind = "emulated",
#endif
    .gemm = &DLC_BFLOAT16_NAME(dlc_gemm_bfloat16),
    .flops_per_repeat = DLC_BFLOAT16_PROBE_FLOPS,
    .dot = DLC_BFLOAT16_NAME(dlc_probe_bfloat16),
};
