/* What the CPU and the operating system support. */
#ifndef DLC_CPU_DETECT_H
#define DLC_CPU_DETECT_H

#include <stdbool.h>

/* The highest level of the x86-64 psABI of which every feature is there, 1 to 4, where the vector registers it uses
 * are saved by the operating system. 0 on other architectures. */
int dlc_cpu_x86_64_level(void);

/* Whether the CPU multiplies pairs of bfloat16 in registers of AVX-512 (AVX512_BF16); their state is a question of the level. */
bool dlc_cpu_has_avx512_bf16(void);

/* Whether the CPU multiplies matrices of bfloat16 in registers of AMX, and the operating system lets all threads of this process
 * use these from now on. Linux gives them only to those that ask, and not where a thread's stack for signals is too small. */
bool dlc_cpu_enable_amx(void);

/* Whether AMD makes this CPU: what caches fetch by themselves differs between makers. */
bool dlc_cpu_is_amd(void);

#endif
