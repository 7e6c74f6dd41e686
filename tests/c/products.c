#include "products.h"

#include <math.h>
#include <string.h>

#include "arrays.h"
#include "checks.h"

/* Products of float32 are exact in double, which AArch64 adds up in hardware, unlike long double. */
static void product_of_floats(long double *value, long double *magnitude, operand a, operand b, int64_t row,
                              int64_t col, int64_t k)
{
    const float *a_row = (const float *)a.data + row * a.row, *b_col = (const float *)b.data + col * b.col;
    double sum = 0, absolute = 0;
    for (int64_t p = 0; p < k; p++) {
        double product = (double)a_row[p * a.col] * b_col[p * b.row];
        sum += product;
        absolute += fabs(product);
    }
    *value = sum;
    *magnitude = absolute;
}

void reference_product(long double *value, long double *magnitude, int32_t dtype, operand a, operand b, int64_t row,
                       int64_t col, int64_t k)
{
    if (dtype == DLC_FLOAT32) {
        product_of_floats(value, magnitude, a, b, row, col, k);
        return;
    }
    const double *a_row = (const double *)a.data + row * a.row, *b_col = (const double *)b.data + col * b.col;
    long double sum = 0;
    double absolute = 0;
    for (int64_t p = 0; p < k; p++) {
        sum += (long double)a_row[p * a.col] * b_col[p * b.row];
        absolute += fabs(a_row[p * a.col] * b_col[p * b.row]);
    }
    *value = sum;
    *magnitude = absolute;
}

long double product_bound(int32_t dtype, int64_t k, long double magnitude)
{
    return epsilon_of(dtype) * (2 + sqrt((double)k)) * magnitude;
}

void expect_product(int32_t dtype, operand c, operand a, operand b, int64_t m, int64_t n, int64_t k, const void *start)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            long double expected, magnitude, first = start ? get(dtype, start, i * n + j) : 0;
            reference_product(&expected, &magnitude, dtype, a, b, i, j, k);
            double got = get(dtype, c.data, i * c.row + j * c.col);
            long double bound = product_bound(dtype, k, magnitude + fabsl(first));
            if (!expect(is_within(got, expected + first, bound),
                        "element (%lld, %lld) is %.17g, not %.17Lg within %.3Lg", (long long)i, (long long)j, got,
                        expected + first, bound))
                return;
        }
}

void expect_column_sums(int32_t dtype, const void *sums, const void *b, int64_t b_row, int64_t b_col, int64_t k, int64_t n,
                        const void *start)
{
    for (int64_t j = 0; j < n; j++) {
        long double expected = start ? get(dtype, start, j) : 0, magnitude = fabsl(expected);
        for (int64_t p = 0; p < k; p++) {
            const double term = get(dtype, b, p * b_row + j * b_col);
            expected += term;
            magnitude += fabs(term);
        }
        /* numbers are added up by about a hundred, and then these sums: no bound that a lost row would stay within */
        if (!expect(is_within(get(dtype, sums, j), expected, (100 + (double)k / 128) * epsilon_of(dtype) * magnitude),
                    "sum of column %lld", (long long)j))
            return;
    }
}

uint32_t round_to_bfloat16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const uint32_t lower = bits & 0xffff, truncated = bits - lower;
    if (isnan(x))
        return truncated | 0x00400000;
    if (fabsf(x) < 0x1p-126f)
        return bits & 0x80000000;
    const bool up = lower > 0x8000 || (lower == 0x8000 && (truncated & 0x10000));
    return up ? truncated + 0x10000 : truncated;
}

void round_all_to_bfloat16(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits = round_to_bfloat16(x[i]);
        memcpy(&x[i], &bits, sizeof bits);
    }
}
