/* Tests the kernel table that DLCORE_ISA names, or the best of this CPU. Usage: kernels [samples of each function] */
#include "kernels.h"

#include <stdlib.h>

#include "checks.h"
#include "threads.h"

/* Subnormals are flushed where that was asked for, and nowhere after. */
static void test_float_mode(void)
{
    volatile double least = 0x1p-1022, half = 0.5;
    describe("flushing of subnormals");
    uint64_t mode = dlc_flush_subnormals();
    expect(least * half == 0, "a subnormal was not flushed");
    dlc_restore_float_mode(mode);
    expect(least * half != 0, "a subnormal is still flushed");
}

int main(int argc, char **argv)
{
    const dlc_kernels *kernels;
    const int64_t samples = argc > 1 ? atoll(argv[1]) : 2000;
    report_faults();
    if (!has_kernels() || dlc_kernels_get(&kernels) != DLC_OK)
        return SKIPPED;
    test_checks();
    test_float_mode();
    for (int32_t dtype = 0; dtype < DLC_REAL_COUNT; dtype++) {
        test_map(kernels->real[dtype], dtype, samples);
        test_gemm(kernels->real[dtype]->gemm, dtype);
        test_rows(kernels->real[dtype], dtype);
        test_steps(kernels->real[dtype], dtype);
        test_random(kernels->real[dtype], dtype);
    }
    test_gemm_bfloat16(kernels->bfloat16->gemm);
    return finish_checks("kernels");
}
