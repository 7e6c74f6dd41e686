/* Chooses the kernel table, once. This file is built with baseline flags: it runs before anything is known of the CPU. */
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "cpu/detect.h"
#include "cpu/kernels.h"

/* X(name, suffix of the tables' symbols, x86-64 level it needs), best first */
#if defined(__x86_64__)
#define DLC_TABLES(X)               \
    X("x86-64-v4", x86_64_v4, 4)    \
    X("x86-64-v3", x86_64_v3, 3)    \
    X("x86-64-v2", x86_64_v2, 2)
#elif defined(__aarch64__)
#define DLC_TABLES(X) X("neon", neon, 0)
#endif

#define X(name, suffix, level)                                \
    extern const dlc_real_kernels dlc_real_kernels_f32_##suffix; \
    extern const dlc_real_kernels dlc_real_kernels_f64_##suffix; \
    extern const dlc_bfloat16_kernels dlc_bfloat16_kernels_f32_##suffix;
DLC_TABLES(X)
#undef X
#ifdef DLC_HAVE_AVX512_BF16
extern const dlc_bfloat16_kernels dlc_bfloat16_kernels_native_f32_x86_64_v4;
#endif
#ifdef DLC_HAVE_AMX
extern const dlc_bfloat16_kernels dlc_bfloat16_kernels_amx_f32_x86_64_v4;
#endif

typedef struct candidate {
    int level;
    dlc_kernels kernels;
} candidate;

static const candidate candidates[] = {
#define X(name, suffix, level)                                                      \
    {level,                                                                         \
     {name, {&dlc_real_kernels_f32_##suffix, &dlc_real_kernels_f64_##suffix}, &dlc_bfloat16_kernels_f32_##suffix, NULL}},
    DLC_TABLES(X)
#undef X
};

enum { CANDIDATE_COUNT = sizeof candidates / sizeof candidates[0] };

const char *dlc_isa_available(void)
{
    static _Thread_local char names[16 * CANDIDATE_COUNT];
    int level = dlc_cpu_x86_64_level();
    names[0] = '\0';
    for (int i = 0; i < CANDIDATE_COUNT; i++) {
        if (candidates[i].level > level)
            continue;
        if (names[0] != '\0')
            strcat(names, " ");
        strcat(names, candidates[i].kernels.isa);
    }
    return names;
}

/* The table, or its variant for an extension that the CPU has. AMX is none of an ISA that is forced. */
static const dlc_kernels *extended(const candidate *chosen, bool is_forced)
{
#ifdef DLC_HAVE_AVX512_BF16
    static const dlc_kernels with_avx512_bf16 = {
        "x86-64-v4", {&dlc_real_kernels_f32_x86_64_v4, &dlc_real_kernels_f64_x86_64_v4},
        &dlc_bfloat16_kernels_native_f32_x86_64_v4, NULL};
    if (chosen->level == 4 && dlc_cpu_has_avx512_bf16()) {
#ifdef DLC_HAVE_AMX
        static const dlc_kernels with_amx = {
            "x86-64-v4", {&dlc_real_kernels_f32_x86_64_v4, &dlc_real_kernels_f64_x86_64_v4},
            &dlc_bfloat16_kernels_native_f32_x86_64_v4, &dlc_bfloat16_kernels_amx_f32_x86_64_v4};
        if (!is_forced)
            return &with_amx;
#endif
        return &with_avx512_bf16;
    }
#endif
    (void)is_forced;
    return &chosen->kernels;
}

static dlc_status choose(const dlc_kernels **kernels)
{
    const char *forced = getenv("DLCORE_ISA");
    bool is_forced = forced && forced[0] != '\0';
    int level = dlc_cpu_x86_64_level();
    for (int i = 0; i < CANDIDATE_COUNT; i++) {
        if (candidates[i].level <= level && (!is_forced || strcmp(forced, candidates[i].kernels.isa) == 0)) {
            *kernels = extended(&candidates[i], is_forced);
            return DLC_OK;
        }
    }
    const char *available = dlc_isa_available();
    if (available[0] == '\0')
        return dlc_fail(DLC_UNSUPPORTED, "this CPU is older than every kernel table; the least is %s",
                        candidates[CANDIDATE_COUNT - 1].kernels.isa);
    return dlc_fail(DLC_UNSUPPORTED, "the environment variable DLCORE_ISA is '%.32s'; available on this machine: %s",
                    forced, available);
}

dlc_status dlc_kernels_get(const dlc_kernels **kernels)
{
    static _Atomic(const dlc_kernels *) chosen;
    *kernels = atomic_load_explicit(&chosen, memory_order_acquire);
    if (*kernels)
        return DLC_OK;
    const dlc_kernels *choice = NULL;
    DLC_TRY(choose(&choice));
    /* A thread that chose at the same time may have been first: its choice stands for both. */
    if (atomic_compare_exchange_strong(&chosen, kernels, choice))
        *kernels = choice;
    return DLC_OK;
}

dlc_status dlc_bfloat16_kernels_get(const dlc_bfloat16_kernels **kernels)
{
    static _Atomic(const dlc_bfloat16_kernels *) chosen;
    *kernels = atomic_load_explicit(&chosen, memory_order_acquire);
    if (*kernels)
        return DLC_OK;
    const dlc_kernels *all;
    DLC_TRY(dlc_kernels_get(&all));
    const dlc_bfloat16_kernels *choice = all->amx && dlc_cpu_enable_amx() ? all->amx : all->bfloat16;
    if (atomic_compare_exchange_strong(&chosen, kernels, choice))
        *kernels = choice;
    return DLC_OK;
}

dlc_status dlc_isa_name(const char **name)
{
    const dlc_kernels *kernels;
    DLC_TRY(dlc_kernels_get(&kernels));
    *name = kernels->isa;
    return DLC_OK;
}
