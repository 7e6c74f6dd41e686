/* What the instructions of map programs should give, by C's library in long double. */
#ifndef DLC_TESTS_MAP_REFERENCE_H
#define DLC_TESTS_MAP_REFERENCE_H

#include <stdbool.h>
#include <stdint.h>

#include "map/map_ops.h"

const char *name_of(int op);
int arity_of(int op);

/* Instructions of one operand that are right to `limit` ULP: {float32, float64}. */
typedef struct unary_reference {
    int op;
    double limit[2];
    long double (*of)(long double x);
} unary_reference;
extern const unary_reference unary_references[];
extern const int unary_reference_count;

/* Instructions of two operands, likewise, but those of logaddexp are ULP of the largest of both operands and the result. */
typedef struct binary_reference {
    int op;
    double limit;
    long double (*of)(long double x, long double y);
} binary_reference;
extern const binary_reference binary_references[];
extern const int binary_reference_count;

/* *value = the result of an instruction that rounds once at most; false where the instruction is not one of these. */
bool exact_reference(double *value, int32_t dtype, int op, double x, double y, double z);

/* The product joined to the sum with one rounding and with two; false where the instruction is no such one. */
bool contraction_reference(double value[2], int32_t dtype, int op, double x, double y, double z);

#endif
