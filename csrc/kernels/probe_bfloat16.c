/* The loop that products in bfloat16 are measured against: their multiply-adds in registers. */
#include "kernels/bfloat16_kernels.h"
#include "kernels/gemm_tile.h"

double DLC_BFLOAT16_NAME(dlc_probe_bfloat16)(int64_t repeats)
{
    /* 1 and -1 times 1 and 0.5: each repeat adds a half, which is exact for as long as a probe takes. */
    const vint a = v_splat_int(0x3f80bf80), b = v_splat_int(0x3f803f00);
    vreal chain[DLC_BFLOAT16_CHAINS];
    DLC_UNROLL
    for (int c = 0; c < DLC_BFLOAT16_CHAINS; c++)
        chain[c] = v_splat((real)c);
    for (int64_t repeat = 0; repeat < repeats; repeat++) {
        DLC_UNROLL
        for (int c = 0; c < DLC_BFLOAT16_CHAINS; c++)
            chain[c] = v_dot_pairs(chain[c], a, b);
    }
    double total = 0;
    for (int c = 0; c < DLC_BFLOAT16_CHAINS; c++)
        total += (double)v_fold_add(chain[c]);
    return total;
}
