#include "checks.h"

#include <float.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "dlcore.h"

enum { MOST_PRINTED = 40 };

static char description[256];
static int64_t checks, failures;

void describe(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(description, sizeof description, format, arguments);
    va_end(arguments);
}

bool expect(bool condition, const char *format, ...)
{
    checks++;
    if (condition)
        return true;
    if (failures++ < MOST_PRINTED) {
        va_list arguments;
        va_start(arguments, format);
        printf("FAILED %s: ", description);
        vprintf(format, arguments);
        printf("\n");
        va_end(arguments);
    }
    return false;
}

static void say(const char *text)
{
    if (write(STDOUT_FILENO, text, strlen(text)) < 0)
        _exit(3);
}

static void on_fault(int signal)
{
    (void)signal;
    say("FAILED ");
    say(description);
    say(": an access beyond the end of an array\n");
    _exit(2);
}

void report_faults(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0); /* a fault leaves no chance to flush */
    signal(SIGSEGV, on_fault);
    signal(SIGBUS, on_fault);
}

int finish_checks(const char *program)
{
    printf("%s: %lld checks, %lld failures\n", program, (long long)checks, (long long)failures);
    return failures > 0 || checks == 0;
}

bool has_kernels(void)
{
    const char *isa;
    if (dlc_isa_name(&isa) != DLC_OK) {
        printf("skipped: %s\n", dlc_last_error());
        return false;
    }
    printf("kernels: %s\n", isa);
    return true;
}

double epsilon_of(int32_t dtype) { return dtype == DLC_FLOAT32 ? FLT_EPSILON : DBL_EPSILON; }

bool is_same(double got, double expected)
{
    if (isnan(expected))
        return isnan(got);
    return got == expected && signbit(got) == signbit(expected);
}

bool is_within(double got, long double expected, long double bound)
{
    if (isnan(expected))
        return isnan(got);
    if (isinf(expected))
        return got == (double)expected;
    return fabsl(got - expected) <= bound;
}

double ulp_error(int32_t dtype, double got, long double expected)
{
    const bool narrow = dtype == DLC_FLOAT32;
    double rounded = narrow ? (float)expected : (double)expected;
    if (!isfinite(rounded) || expected == 0)
        return is_same(got, rounded) ? 0 : INFINITY;
    if (!isfinite(got))
        return INFINITY;
    int digits = narrow ? FLT_MANT_DIG : DBL_MANT_DIG, least = narrow ? FLT_MIN_EXP : DBL_MIN_EXP, exponent;
    frexpl(expected, &exponent);
    return (double)(fabsl(got - expected) / ldexpl(1, (exponent > least ? exponent : least) - digits));
}

bool can_judge(int32_t dtype) { return dtype == DLC_FLOAT32 || LDBL_MANT_DIG > DBL_MANT_DIG; }

void test_checks(void)
{
    static const double wrong[] = {0, -0.0, NAN, INFINITY, -INFINITY, -1.5, 1.6};
    for (int32_t dtype = 0; dtype < DLC_REAL_COUNT; dtype++) {
        describe("the comparisons");
        const double near = 1.5 + epsilon_of(dtype);
        expect(ulp_error(dtype, 1.5, 1.5L) == 0, "1.5 is not 1.5 by ulp_error");
        expect(ulp_error(dtype, near, 1.5L) == 1, "ulp_error does not count in units of the last place");
        expect(is_within(near, 1.5L, 2 * epsilon_of(dtype)), "is_within refuses what is near");
        for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
            expect(ulp_error(dtype, wrong[i], 1.5L) > 1000, "ulp_error takes %g for 1.5", wrong[i]);
            expect(!is_within(wrong[i], 1.5L, 0.01L), "is_within takes %g for 1.5", wrong[i]);
            expect(!is_same(wrong[i], 1.5), "is_same takes %g for 1.5", wrong[i]);
        }
        static const double exact[] = {0, -0.0, NAN, INFINITY, -INFINITY};
        for (int i = 0; i < 5; i++)
            for (int j = 0; j < 5; j++) {
                bool same = is_same(exact[i], exact[j]);
                expect(same == (i == j), "is_same confuses %g and %g", exact[i], exact[j]);
                expect((ulp_error(dtype, exact[i], exact[j]) == 0) == same, "ulp_error confuses %g and %g", exact[i],
                       exact[j]);
            }
        expect(!is_within(NAN, INFINITY, INFINITY) && !is_within(1, NAN, INFINITY), "is_within takes NaN");
    }
}
