#include "map_reference.h"

#include <math.h>

#include "arrays.h"

static const struct {
    const char *name;
    int arity;
} instructions[DLC_MAP_OP_COUNT] = {
#define X(code, NAME, name, arity) [code] = {#name, arity},
    DLC_MAP_OPS(X)
#undef X
};

const char *name_of(int op) { return instructions[op].name; }
int arity_of(int op) { return instructions[op].arity; }

static long double sigmoid(long double x)
{
    long double z = expl(-fabsl(x));
    return (x < 0 ? z : 1) / (1 + z);
}

static long double softplus(long double x) { return (x < 0 ? 0 : x) + log1pl(expl(-fabsl(x))); }

static long double silu(long double x) { return isinf(x) && x < 0 ? -0.0L : x * sigmoid(x); }

/* x erfc(-x / sqrt(2)) / 2, with a first-order correction for the rounding of the quotient: where erfc is small, that alone
 * would cost a third of an ULP of float64. */
static long double gelu(long double x)
{
    if (isinf(x) && x < 0)
        return -0.0L;
    const long double root = sqrtl(0.5L), root_low = fmal(-root, root, 0.5L) / (2 * root);
    long double t = -x * root;
    long double tail = erfcl(t);
    if (fabsl(x) < 100)
        tail -= 1.12837916709551257389615890312L * expl(-t * t) * (fmal(-x, root, -t) - x * root_low);
    return x * tail / 2;
}

static long double reciprocal(long double x) { return 1 / x; }

static long double elu(long double x, long double alpha) { return x > 0 ? x : alpha * expm1l(x); }

static long double logaddexp(long double x, long double y)
{
    if (isnan(x) || isnan(y))
        return x + y;
    return x == y ? x + logl(2) : fmaxl(x, y) + log1pl(expl(-fabsl(x - y)));
}

/* The limits are those of tests/test_accuracy.py. */
const unary_reference unary_references[] = {
    {DLC_MAP_SQRT, {0.5, 0.5}, sqrtl},
    {DLC_MAP_RECIPROCAL, {0.5, 0.5}, reciprocal},
    {DLC_MAP_EXP, {1.5, 2}, expl},
    {DLC_MAP_EXPM1, {1.5, 2}, expm1l},
    {DLC_MAP_LOG, {1.5, 2}, logl},
    {DLC_MAP_LOG1P, {1.5, 2}, log1pl},
    {DLC_MAP_TANH, {1.5, 2}, tanhl},
    {DLC_MAP_SIGMOID, {1.5, 2}, sigmoid},
    {DLC_MAP_SOFTPLUS, {1.5, 2}, softplus},
    {DLC_MAP_ERF, {1.5, 2}, erfl},
    {DLC_MAP_GELU, {4, 4}, gelu},
    {DLC_MAP_SILU, {4, 4}, silu},
    {DLC_MAP_SIN, {1, 1.5}, sinl},
    {DLC_MAP_COS, {1, 1.5}, cosl},
    {DLC_MAP_TAN, {2, 2}, tanl},
    {DLC_MAP_ARCSIN, {1.5, 1.5}, asinl},
    {DLC_MAP_ARCCOS, {1.5, 1.5}, acosl},
    {DLC_MAP_ARCTAN, {1.5, 1.5}, atanl},
    {DLC_MAP_SINH, {1.5, 1.5}, sinhl},
    {DLC_MAP_COSH, {1.5, 1.5}, coshl},
    {DLC_MAP_ARCSINH, {1.5, 1.5}, asinhl},
    {DLC_MAP_ARCCOSH, {2, 2}, acoshl},
    {DLC_MAP_ARCTANH, {2, 2}, atanhl},
    {DLC_MAP_CBRT, {1, 1}, cbrtl},
    {DLC_MAP_LOG2, {1.5, 1.5}, log2l},
    {DLC_MAP_LOG10, {1.5, 1.5}, log10l},
    {DLC_MAP_EXP2, {1.5, 1.5}, exp2l},
};
const int unary_reference_count = sizeof unary_references / sizeof unary_references[0];

const binary_reference binary_references[] = {
    {DLC_MAP_POWER, 1, powl}, {DLC_MAP_ARCTAN2, 2, atan2l},        {DLC_MAP_HYPOT, 1.5, hypotl},
    {DLC_MAP_ELU, 3, elu},    {DLC_MAP_LOGADDEXP, 2.5, logaddexp},
};
const int binary_reference_count = sizeof binary_references / sizeof binary_references[0];

static double remainder_of(double x, double y)
{
    double r = fmod(x, y);
    if (r == 0 && y != 0)
        return copysign(0, y);
    return r != 0 && signbit(r) != signbit(y) ? r + y : r;
}

static double floor_of_quotient(double x, double y)
{
    if (y == 0)
        return x / y;
    if (isinf(x) || isnan(x))
        return NAN;
    if (isinf(y))
        return x == 0 || signbit(x) == signbit(y) ? copysign(0, x / y) : -1;
    return (double)floorl((long double)x / y);
}

static double sign_of(double x) { return isnan(x) ? x : (x > 0) - (x < 0); }

static double larger_of(double x, double y) { return isnan(x) || isnan(y) ? NAN : fmax(x, y); }
static double smaller_of(double x, double y) { return isnan(x) || isnan(y) ? NAN : fmin(x, y); }

/* Of float32 the operations are those of double, rounded: at more than twice the digits that gives what one rounding does. */
bool exact_reference(double *value, int32_t dtype, int op, double x, double y, double z)
{
    double v;
    switch (op) {
    case DLC_MAP_COPY: v = x; break;
    case DLC_MAP_ADD: v = x + y; break;
    case DLC_MAP_SUBTRACT: v = x - y; break;
    case DLC_MAP_MULTIPLY: v = x * y; break;
    case DLC_MAP_DIVIDE: v = x / y; break;
    case DLC_MAP_MAXIMUM: v = larger_of(x, y); break;
    case DLC_MAP_MINIMUM: v = smaller_of(x, y); break;
    case DLC_MAP_NEGATIVE: v = -x; break;
    case DLC_MAP_ABSOLUTE: v = fabs(x); break;
    case DLC_MAP_SIGN: v = sign_of(x); break;
    case DLC_MAP_SQUARE: v = x * x; break;
    case DLC_MAP_SQRT: v = sqrt(x); break;
    case DLC_MAP_RECIPROCAL: v = 1 / x; break;
    case DLC_MAP_RELU: v = x < 0 ? 0 : x; break;
    case DLC_MAP_LEAKY_RELU: v = x > 0 ? x : y * x; break;
    case DLC_MAP_GREATER: v = x > y; break;
    case DLC_MAP_GREATER_EQUAL: v = x >= y; break;
    case DLC_MAP_LESS: v = x < y; break;
    case DLC_MAP_LESS_EQUAL: v = x <= y; break;
    case DLC_MAP_EQUAL: v = x == y; break;
    case DLC_MAP_NOT_EQUAL: v = x != y; break;
    case DLC_MAP_WHERE: v = x != 0 ? y : z; break;
    case DLC_MAP_WHERE_POSITIVE: v = x > 0 ? y : z; break;
    case DLC_MAP_FLOOR: v = floor(x); break;
    case DLC_MAP_CEIL: v = ceil(x); break;
    case DLC_MAP_TRUNC: v = trunc(x); break;
    case DLC_MAP_RINT: v = rint(x); break;
    case DLC_MAP_REMAINDER: v = remainder_of(x, y); break;
    case DLC_MAP_FMOD: v = fmod(x, y); break;
    case DLC_MAP_FLOOR_DIVIDE: v = floor_of_quotient(x, y); break;
    case DLC_MAP_COPYSIGN: v = copysign(x, y); break;
    case DLC_MAP_LOGICAL_AND: v = x != 0 && y != 0; break;
    case DLC_MAP_LOGICAL_OR: v = x != 0 || y != 0; break;
    case DLC_MAP_LOGICAL_XOR: v = (x != 0) != (y != 0); break;
    case DLC_MAP_LOGICAL_NOT: v = x == 0; break;
    case DLC_MAP_ISNAN: v = isnan(x) != 0; break;
    case DLC_MAP_ISINF: v = isinf(x) != 0; break;
    case DLC_MAP_ISFINITE: v = isfinite(x) != 0; break;
    default: return false;
    }
    *value = round_to(dtype, v);
    return true;
}

bool contraction_reference(double value[2], int32_t dtype, int op, double x, double y, double z)
{
    if (op == DLC_MAP_TANH_GRADIENT) {
        const double once = dtype == DLC_FLOAT32 ? (double)fmaf((float)-x, (float)x, 1) : fma(-x, x, 1);
        value[0] = round_to(dtype, once * y);
        value[1] = round_to(dtype, round_to(dtype, 1 - round_to(dtype, x * x)) * y);
        return true;
    }
    double product = round_to(dtype, x * y), negative = op == DLC_MAP_SUBTRACT_MULTIPLY ? -1 : 1;
    double addend = op == DLC_MAP_MULTIPLY_SUBTRACT ? -z : z;
    if (op != DLC_MAP_MULTIPLY_ADD && op != DLC_MAP_MULTIPLY_SUBTRACT && op != DLC_MAP_SUBTRACT_MULTIPLY)
        return false;
    value[0] = dtype == DLC_FLOAT32 ? (double)fmaf((float)(negative * x), (float)y, (float)addend)
                                    : fma(negative * x, y, addend);
    value[1] = round_to(dtype, negative * product + addend);
    return true;
}
