/* What the C tests share: how failures are reported, and comparisons that neither zeros nor NaN pass. */
#ifndef DLC_TESTS_CHECKS_H
#define DLC_TESTS_CHECKS_H

#include <stdbool.h>
#include <stdint.h>

/* Says what is tested from here on; failures name it, and so does a fault. */
__attribute__((format(printf, 1, 2))) void describe(const char *format, ...);

/* Counts a check, and prints the message where the condition is false. Returns the condition. */
__attribute__((format(printf, 2, 3))) bool expect(bool condition, const char *format, ...);

/* Reports a fault (an access beyond a guard page) with what was tested. */
void report_faults(void);

/* Prints how many checks were made and failed; the program's exit status. */
int finish_checks(const char *program);

/* Skips the program, for CTest, where this CPU lacks the kernels that DLCORE_ISA names; prints those in use. */
enum { SKIPPED = 77 };
bool has_kernels(void);

/* The unit in the last place of 1: 2^-23 or 2^-52. */
double epsilon_of(int32_t dtype);

/* The same number with the same sign, or NaN twice. */
bool is_same(double got, double expected);

/* |got - expected| <= bound; NaN and infinities equal themselves only. */
bool is_within(double got, long double expected, long double bound);

/* |got - expected| in units of the last place of dtype. Where the expected number is 0, NaN or rounds to an infinity: 0 for
 * exactly that, infinite for any other. */
double ulp_error(int32_t dtype, double got, long double expected);

/* Whether long double is wide enough to judge float64. */
bool can_judge(int32_t dtype);

/* The comparisons themselves. */
void test_checks(void);

#endif
