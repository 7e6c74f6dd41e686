#include "cpu/detect.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <stdatomic.h>
#include <stdint.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

/* The levels are those of the x86-64 psABI, table "Micro-Architecture Levels"; the bits are CPUID's. */
enum {
    LEAF_1_ECX_V2 = bit_SSE3 | bit_SSSE3 | bit_SSE4_1 | bit_SSE4_2 | bit_POPCNT | bit_CMPXCHG16B,
    LEAF_1_ECX_V3 = bit_FMA | bit_MOVBE | bit_OSXSAVE | bit_AVX | bit_F16C,
    LEAF_7_EBX_V3 = bit_BMI | bit_AVX2 | bit_BMI2,
    LEAF_7_EDX_AMX_BF16 = 1 << 22 | 1 << 24, /* and the registers, AMX_TILE */
    LEAF_7_1_EAX_AVX512_BF16 = 1 << 5,
    LEAF_EXTENDED_ECX_V2 = 1 << 0, /* LAHF and SAHF in 64-bit mode */
    LEAF_EXTENDED_ECX_V3 = 1 << 5, /* LZCNT */
    XCR0_V3 = 0x06,                /* SSE and AVX registers */
    XCR0_V4 = 0xe6,                /* and mask registers, upper halves, zmm16 to zmm31 */
    XCR0_AMX = 3 << 17             /* configuration and contents of its registers */
};

/* An unsigned constant of its own: one of these is bit 31. */
static const uint32_t leaf_7_ebx_v4 = bit_AVX512F | bit_AVX512DQ | bit_AVX512CD | bit_AVX512BW | bit_AVX512VL;

static bool has_all(uint32_t value, uint32_t bits) { return (value & bits) == bits; }

/* The register state that the operating system saves. Only where CPUID reports OSXSAVE. */
static uint32_t read_xcr0(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

int dlc_cpu_x86_64_level(void)
{
    uint32_t eax, ebx, ecx, edx;
    uint32_t leaf_1_ecx = 0, leaf_7_ebx = 0, extended_ecx = 0;
    if (__get_cpuid(1, &eax, &ebx, &ecx, &edx))
        leaf_1_ecx = ecx;
    if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx))
        leaf_7_ebx = ebx;
    if (__get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx))
        extended_ecx = ecx;

    if (!has_all(leaf_1_ecx, LEAF_1_ECX_V2) || !has_all(extended_ecx, LEAF_EXTENDED_ECX_V2))
        return 1;
    if (!has_all(leaf_1_ecx, LEAF_1_ECX_V3) || !has_all(leaf_7_ebx, LEAF_7_EBX_V3) ||
        !has_all(extended_ecx, LEAF_EXTENDED_ECX_V3))
        return 2;
    uint32_t xcr0 = read_xcr0();
    if (!has_all(xcr0, XCR0_V3))
        return 2;
    return has_all(leaf_7_ebx, leaf_7_ebx_v4) && has_all(xcr0, XCR0_V4) ? 4 : 3;
}

bool dlc_cpu_has_avx512_bf16(void)
{
    uint32_t eax, ebx, ecx, edx;
    /* The first subleaf says how many there are; past the last one CPUs answer as they like. */
    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && eax >= 1 &&
           __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && has_all(eax, LEAF_7_1_EAX_AVX512_BF16);
}

bool dlc_cpu_enable_amx(void)
{
#if defined(__linux__) && defined(SYS_arch_prctl)
    /* of the kernel's <asm/prctl.h>, from Linux 5.16 on; Documentation/arch/x86/xstate.rst */
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    uint32_t eax, ebx, ecx, edx;
    return dlc_cpu_x86_64_level() == 4 && __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) &&
           has_all(edx, LEAF_7_EDX_AMX_BF16) && has_all(read_xcr0(), XCR0_AMX) &&
           syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
    return false;
#endif
}

/* Asked for once, as virtual machines are interrupted by CPUID. */
bool dlc_cpu_is_amd(void)
{
    enum { UNKNOWN, NO, YES };
    static atomic_int known;
    int answer = atomic_load_explicit(&known, memory_order_relaxed);
    if (answer == UNKNOWN) {
        uint32_t eax, ebx, ecx, edx;
        const bool is_amd = __get_cpuid(0, &eax, &ebx, &ecx, &edx) && ebx == signature_AMD_ebx && ecx == signature_AMD_ecx &&
                            edx == signature_AMD_edx;
        answer = is_amd ? YES : NO;
        atomic_store_explicit(&known, answer, memory_order_relaxed);
    }
    return answer == YES;
}

#else

int dlc_cpu_x86_64_level(void) { return 0; }

bool dlc_cpu_has_avx512_bf16(void) { return false; }

bool dlc_cpu_enable_amx(void) { return false; }

bool dlc_cpu_is_amd(void) { return false; }

#endif
