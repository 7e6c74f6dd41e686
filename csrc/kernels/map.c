/* The instructions of map programs: short expressions, and what is left to C (map_functions.c has the others). A rest of fewer
 * elements than a vector goes through the same vector expression, so an element's result depends neither on its place nor on n. */
#include <math.h>

#include "kernels/lanes.h"
#include "kernels/map_kernels.h"
#include "kernels/math.h"

#define WHOLE(p) v_load((const real *)(p) + i)
#define REST(p) v_load_part((const real *)(p) + i, n - i, 1)

/* out[i] = expression of vectors x, y, z, which X, Y and Z give for a loader. The results of a turn are stored when the next turn
 * has loaded: where out begins a few lines after an input, modulo 4 KiB, as arrays do that are allocated one after the other,
 * a load waits for a store before it. A turn is four vectors: that saves jumps, and no load waits where out begins up to four lines
 * after (Zen 4, AVX-512: relu of 128 KB took 1.2 times as long with one). */
#define VECTOR(v, result, expression, X, Y, Z)     \
    {                                              \
        const int64_t i = first + (v) * DLC_LANES; \
        X(WHOLE) Y(WHOLE) Z(WHOLE)                 \
        result = (expression);                     \
    }
#define FOUR_VECTORS(result, ...)     \
    VECTOR(0, result##0, __VA_ARGS__) \
    VECTOR(1, result##1, __VA_ARGS__) \
    VECTOR(2, result##2, __VA_ARGS__) \
    VECTOR(3, result##3, __VA_ARGS__)
enum { FOUR = 4 * DLC_LANES };
#define STORE_FOUR(place, result)                \
    v_store((place), result##0);                 \
    v_store((place) + DLC_LANES, result##1);     \
    v_store((place) + 2 * DLC_LANES, result##2); \
    v_store((place) + 3 * DLC_LANES, result##3);
#define SHORT_LOOP(...)                                                 \
    {                                                                   \
        int64_t first = 0;                                              \
        if (n >= FOUR) {                                                \
            vreal now0, now1, now2, now3;                               \
            FOUR_VECTORS(now, __VA_ARGS__)                              \
            for (first = FOUR; first + FOUR <= n; first += FOUR) {      \
                vreal next0, next1, next2, next3;                       \
                FOUR_VECTORS(next, __VA_ARGS__)                         \
                STORE_FOUR((real *)out + first - FOUR, now)             \
                now0 = next0, now1 = next1, now2 = next2, now3 = next3; \
            }                                                           \
            STORE_FOUR((real *)out + first - FOUR, now)                 \
        }                                                               \
        for (; first + DLC_LANES <= n; first += DLC_LANES) {            \
            vreal result;                                               \
            VECTOR(0, result, __VA_ARGS__)                              \
            v_store((real *)out + first, result);                       \
        }                                                               \
        STORE_REST(__VA_ARGS__)                                         \
    }
#define STORE_REST(expression, X, Y, Z)                     \
    if (first < n) {                                        \
        const int64_t i = first;                            \
        X(REST) Y(REST) Z(REST)                             \
        v_store_part((real *)out + i, (expression), n - i); \
    }
#define X_ARRAY(load) const vreal x = load(a);
#define Y_ARRAY(load) const vreal y = load(b);
#define Z_ARRAY(load) const vreal z = load(c);
#define X_NUMBER(load) const vreal x = of_a;
#define Y_NUMBER(load) const vreal y = of_b;
#define Z_NUMBER(load) const vreal z = of_c;
#define NONE(load)
#define NUMBER(p) v_splat(*(const real *)(p))

#define LOOP_1(loop, expression) loop(expression, X_ARRAY, NONE, NONE)
#define LOOP_2(loop, expression) loop(expression, X_ARRAY, Y_ARRAY, NONE)
#define LOOP_3(loop, expression) loop(expression, X_ARRAY, Y_ARRAY, Z_ARRAY)

/* out[i] = expression of vectors x = a[i], y = b[i], z = c[i] */
#define DEFINE_MAP(name, arity, expression)                     \
    DLC_MAP_HEAD(name)                                          \
    {                                                           \
        DLC_UNREAD_##arity LOOP_##arity(SHORT_LOOP, expression) \
    }

/* Likewise, with loops of their own for numbers in place of arrays: an addition of two arrays is three accesses to L1,
 * one of an array and a number two. */
#define DEFINE_MAP_NUMBERS_2(name, expression)              \
    DLC_MAP_HEAD(name)                                      \
    {                                                       \
        (void)c;                                            \
        if (numbers == DLC_MAP_B) {                         \
            const vreal of_b = NUMBER(b);                   \
            SHORT_LOOP(expression, X_ARRAY, Y_NUMBER, NONE) \
        } else if (numbers == DLC_MAP_A) {                  \
            const vreal of_a = NUMBER(a);                   \
            SHORT_LOOP(expression, X_NUMBER, Y_ARRAY, NONE) \
        } else {                                            \
            LOOP_2(SHORT_LOOP, expression)                  \
        }                                                   \
    }
#define DEFINE_MAP_NUMBERS_3(name, expression)                  \
    DLC_MAP_HEAD(name)                                          \
    {                                                           \
        if (numbers == DLC_MAP_B) {                             \
            const vreal of_b = NUMBER(b);                       \
            SHORT_LOOP(expression, X_ARRAY, Y_NUMBER, Z_ARRAY)  \
        } else if (numbers == DLC_MAP_C) {                      \
            const vreal of_c = NUMBER(c);                       \
            SHORT_LOOP(expression, X_ARRAY, Y_ARRAY, Z_NUMBER)  \
        } else if (numbers == (DLC_MAP_B | DLC_MAP_C)) {        \
            const vreal of_b = NUMBER(b), of_c = NUMBER(c);     \
            SHORT_LOOP(expression, X_ARRAY, Y_NUMBER, Z_NUMBER) \
        } else {                                                \
            LOOP_3(SHORT_LOOP, expression)                      \
        }                                                       \
    }

#define ZERO v_splat(0)
#define ONE v_splat(1)
#define TRUTH(mask) ((vreal)((mask) & (vint)ONE))

DEFINE_MAP(copy, 1, x)
DEFINE_MAP_NUMBERS_2(add, x + y)
DEFINE_MAP_NUMBERS_2(subtract, x - y)
DEFINE_MAP_NUMBERS_2(multiply, x * y)
DEFINE_MAP_NUMBERS_2(divide, x / y)
DEFINE_MAP_NUMBERS_2(maximum, v_select((x >= y) | (x != x), x, y))
DEFINE_MAP_NUMBERS_2(minimum, v_select((x <= y) | (x != x), x, y))
DEFINE_MAP(negative, 1, -x)
DEFINE_MAP(absolute, 1, v_abs(x))
DEFINE_MAP(sign, 1, v_select(x > 0, ONE, v_select(x < 0, -ONE, v_select(x == 0, ZERO, x))))
DEFINE_MAP(square, 1, x * x)
DEFINE_MAP(sqrt, 1, v_sqrt(x))
DEFINE_MAP(reciprocal, 1, 1 / x)
DEFINE_MAP(relu, 1, v_at_least(x, 0))
DEFINE_MAP_NUMBERS_2(leaky_relu, v_select(x > 0, x, y * x))
DEFINE_MAP_NUMBERS_2(greater, TRUTH(x > y))
DEFINE_MAP_NUMBERS_2(greater_equal, TRUTH(x >= y))
DEFINE_MAP_NUMBERS_2(less, TRUTH(x < y))
DEFINE_MAP_NUMBERS_2(less_equal, TRUTH(x <= y))
DEFINE_MAP_NUMBERS_2(equal, TRUTH(x == y))
DEFINE_MAP_NUMBERS_2(not_equal, TRUTH(x != y))
DEFINE_MAP_NUMBERS_3(where, v_select(x != 0, y, z))
DEFINE_MAP_NUMBERS_3(where_positive, v_select(x > 0, y, z))
DEFINE_MAP_NUMBERS_3(multiply_add, x * y + z)
DEFINE_MAP_NUMBERS_3(multiply_subtract, x * y - z)
DEFINE_MAP_NUMBERS_3(subtract_multiply, z - x * y)
DEFINE_MAP(tanh_gradient, 2, (1 - x * x) * y)

DEFINE_MAP(floor, 1, v_floor(x))
DEFINE_MAP(ceil, 1, v_ceil(x))
DEFINE_MAP(trunc, 1, v_trunc(x))
DEFINE_MAP(rint, 1, v_rint(x))
DEFINE_MAP(copysign, 2, v_copysign(v_abs(x), y))
DEFINE_MAP(logical_and, 2, TRUTH((x != 0) & (y != 0)))
DEFINE_MAP(logical_or, 2, TRUTH((x != 0) | (y != 0)))
DEFINE_MAP(logical_xor, 2, TRUTH((x != 0) ^ (y != 0)))
DEFINE_MAP(logical_not, 1, TRUTH(x == 0))
DEFINE_MAP(isnan, 1, TRUTH(x != x))
DEFINE_MAP(isinf, 1, TRUTH(v_abs(x) == DLC_INFINITY))
DEFINE_MAP(isfinite, 1, TRUTH(v_abs(x) < DLC_INFINITY))

/* ---- Functions of C ---- */

#define SCALAR_1(i) const real x = ((const real *)a)[i];
#define SCALAR_2(i) SCALAR_1(i) const real y = ((const real *)b)[i];

/* out[i] = expression of numbers x = a[i], y = b[i]. Exact remainders are left to C's fmod, which takes 2.5 to 4 ns an element, as
 * in NumPy. */
#define DEFINE_SCALAR_MAP(name, arity, expression) \
    DLC_MAP_HEAD(name)                             \
    {                                              \
        DLC_UNREAD_##arity                         \
        for (int64_t i = 0; i < n; i++) {          \
            SCALAR_##arity(i)                      \
            ((real *)out)[i] = (expression);       \
        }                                          \
    }

/* x - y floor(x / y), with the sign of y */
static real remainder_of(real x, real y)
{
    real r = DLC_OF_REAL(fmod)(x, y);
    if (r == 0 && y != 0)
        return DLC_OF_REAL(copysign)(0, y);
    return r != 0 && (r < 0) != (y < 0) ? r + y : r; /* NaN where y is 0 */
}

/* floor of the exact x / y, which the rounded quotient may exceed */
static real floor_of_quotient(real x, real y)
{
    if (y == 0)
        return x / y;
    real r = DLC_OF_REAL(fmod)(x, y);
    real multiple = (x - r) / y; /* an integer but for rounding */
    if (r != 0 && (r < 0) != (y < 0))
        multiple -= 1;
    if (multiple == 0)
        return DLC_OF_REAL(copysign)(0, x / y);
    real below = DLC_OF_REAL(floor)(multiple);
    return multiple - below > (real)0.5 ? below + 1 : below;
}

DEFINE_SCALAR_MAP(remainder, 2, remainder_of(x, y))
DEFINE_SCALAR_MAP(fmod, 2, DLC_OF_REAL(fmod)(x, y))
DEFINE_SCALAR_MAP(floor_divide, 2, floor_of_quotient(x, y))

dlc_map_kernel *const DLC_NAME(dlc_map_kernels)[DLC_MAP_OP_COUNT] = {
#define X(code, NAME, name, arity) [DLC_MAP_##NAME] = DLC_NAME(dlc_map_##name),
    DLC_MAP_OPS(X)
#undef X
};
