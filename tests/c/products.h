/* Matrix products as three loops in a wider type. */
#ifndef DLC_TESTS_PRODUCTS_H
#define DLC_TESTS_PRODUCTS_H

#include <stdint.h>

/* A matrix anywhere in memory: element (i, j) is data[i * row + j * col]. */
typedef struct operand {
    const void *data;
    int64_t row, col;
} operand;

/* *value = sum_p a[row, p] b[p, col]; *magnitude = the same of absolute values */
void reference_product(long double *value, long double *magnitude, int32_t dtype, operand a, operand b, int64_t row,
                       int64_t col, int64_t k);

/* The error that a sum of k products may have beside the magnitude of the sum: 2 + sqrt(k) units of precision. */
long double product_bound(int32_t dtype, int64_t k, long double magnitude);

/* Fails unless c (m, n) = start (m, n; contiguous; NULL is 0) + a (m, k) @ b (k, n) within that bound. */
void expect_product(int32_t dtype, operand c, operand a, operand b, int64_t m, int64_t n, int64_t k, const void *start);

/* Fails unless sums (n) are near those of the columns of b (k, n), to which those of `start` are added unless it is NULL. */
void expect_column_sums(int32_t dtype, const void *sums, const void *b, int64_t b_row, int64_t b_col, int64_t k, int64_t n,
                        const void *start);

/* The bits of x rounded to bfloat16, as float32: among the numbers whose lower halves are 0 the nearest, of two the even one.
 * NaN becomes quiet, subnormals 0. */
uint32_t round_to_bfloat16(float x);
void round_all_to_bfloat16(float *x, int64_t n);

#endif
