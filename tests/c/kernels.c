/* Tests the kernel table that DLCORE_ISA names, or the best of this CPU. Usage: kernels [samples of each function] */
#include "kernels.h"

#include <stdlib.h>
#include <string.h>

#include "checks.h"
#include "cpu/detect.h"
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

#ifdef DLC_HAVE_AMX
extern const dlc_bfloat16_kernels dlc_bfloat16_kernels_amx_f32_x86_64_v4;
#endif

/* AMX is chosen where there is it, and not under DLCORE_ISA. */
static void test_amx(const dlc_kernels *kernels)
{
    const char *forced = getenv("DLCORE_ISA");
    const dlc_bfloat16_kernels *chosen;
    const bool may_be_chosen = !forced || forced[0] == '\0';
    const bool has_amx = strcmp(kernels->isa, "x86-64-v4") == 0 && dlc_cpu_enable_amx();
    describe("the choice of AMX");
    if (!expect(dlc_bfloat16_kernels_get(&chosen) == DLC_OK, "there are no kernels for bfloat16"))
        return;
#ifdef DLC_HAVE_AMX
    const dlc_bfloat16_kernels *amx = &dlc_bfloat16_kernels_amx_f32_x86_64_v4;
    expect(chosen == (has_amx && may_be_chosen ? amx : kernels->bfloat16), "bfloat16 is %s", chosen->kind);
    if (!has_amx)
        return;
    test_gemm_bfloat16(amx->gemm);
    describe("the rate of AMX");
    expect(amx->dot(8) == (double)amx->flops_per_repeat, "a probe of it has the sum %g", amx->dot(8));
#else
    expect(chosen == kernels->bfloat16, "bfloat16 is %s", chosen->kind);
    (void)has_amx;
    (void)may_be_chosen;
#endif
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
        test_map_walks(kernels->real[dtype], dtype, samples / 16);
        test_gemm(kernels->real[dtype]->gemm, dtype);
        test_rows(kernels->real[dtype], dtype);
        test_steps(kernels->real[dtype], dtype);
        test_random(kernels->real[dtype], dtype);
    }
    test_gemm_bfloat16(kernels->bfloat16->gemm);
    test_amx(kernels);
    return finish_checks("kernels");
}
