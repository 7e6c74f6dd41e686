/* The instructions of map programs. A rest of fewer elements than a vector goes through the same vector
 * expression, so an element's result depends neither on its place nor on n. */
#include <math.h>

#include "kernels/lanes.h"
#include "kernels/map_kernels.h"
#include "kernels/math.h"

#define UNUSED_1 (void)b, (void)c;
#define UNUSED_2 (void)c;
#define UNUSED_3
#define LOAD_1(load) vreal x = load(a);
#define LOAD_2(load) LOAD_1(load) vreal y = load(b);
#define LOAD_3(load) LOAD_2(load) vreal z = load(c);
#define WHOLE(p) v_load((const real *)(p) + i)
#define REST(p) v_load_part((const real *)(p) + i, n - i, 1)

/* out[i] = expression of vectors x = a[i], y = b[i], z = c[i] */
#define DEFINE_MAP(name, arity, expression)                                                          \
    static void map_##name(void *out, const void *a, const void *b, const void *c, int64_t n)        \
    {                                                                                                \
        UNUSED_##arity                                                                               \
        int64_t i = 0;                                                                               \
        for (; i + DLC_LANES <= n; i += DLC_LANES) {                                                 \
            LOAD_##arity(WHOLE)                                                                      \
            v_store((real *)out + i, (expression));                                                  \
        }                                                                                            \
        if (i < n) {                                                                                 \
            LOAD_##arity(REST)                                                                       \
            v_store_part((real *)out + i, (expression), n - i);                                      \
        }                                                                                            \
    }

#define ZERO v_splat(0)
#define ONE v_splat(1)
#define TRUTH(mask) ((vreal)((mask) & (vint)ONE))

DEFINE_MAP(copy, 1, x)
DEFINE_MAP(add, 2, x + y)
DEFINE_MAP(subtract, 2, x - y)
DEFINE_MAP(multiply, 2, x * y)
DEFINE_MAP(divide, 2, x / y)
DEFINE_MAP(maximum, 2, v_select((x >= y) | (x != x), x, y))
DEFINE_MAP(minimum, 2, v_select((x <= y) | (x != x), x, y))
DEFINE_MAP(negative, 1, -x)
DEFINE_MAP(absolute, 1, v_abs(x))
DEFINE_MAP(sign, 1, v_select(x > 0, ONE, v_select(x < 0, -ONE, v_select(x == 0, ZERO, x))))
DEFINE_MAP(square, 1, x * x)
DEFINE_MAP(sqrt, 1, v_sqrt(x))
DEFINE_MAP(reciprocal, 1, 1 / x)
DEFINE_MAP(exp, 1, v_exp(x))
DEFINE_MAP(expm1, 1, v_expm1(x))
DEFINE_MAP(log, 1, v_log(x))
DEFINE_MAP(log1p, 1, v_log1p(x))
DEFINE_MAP(tanh, 1, v_tanh(x))
DEFINE_MAP(sigmoid, 1, v_sigmoid(x))
DEFINE_MAP(softplus, 1, v_softplus(x))
DEFINE_MAP(erf, 1, v_erf(x))
DEFINE_MAP(relu, 1, v_select(x < 0, ZERO, x))
DEFINE_MAP(leaky_relu, 2, v_select(x > 0, x, y * x))
DEFINE_MAP(elu, 2, v_select(x > 0, x, y * v_expm1(x)))
DEFINE_MAP(gelu, 1, v_gelu(x))
DEFINE_MAP(silu, 1, v_silu(x))
DEFINE_MAP(greater, 2, TRUTH(x > y))
DEFINE_MAP(greater_equal, 2, TRUTH(x >= y))
DEFINE_MAP(less, 2, TRUTH(x < y))
DEFINE_MAP(less_equal, 2, TRUTH(x <= y))
DEFINE_MAP(equal, 2, TRUTH(x == y))
DEFINE_MAP(not_equal, 2, TRUTH(x != y))
DEFINE_MAP(where, 3, v_select(x != 0, y, z))
DEFINE_MAP(multiply_add, 3, x * y + z)

/* C's pow, element by element: correct to an ULP with all its special cases, and rare in networks (square and sqrt
 * have instructions of their own). */
static void map_power(void *out, const void *a, const void *b, const void *c, int64_t n)
{
    (void)c;
    for (int64_t i = 0; i < n; i++)
#if DLC_REAL_BITS == 32
        ((real *)out)[i] = powf(((const real *)a)[i], ((const real *)b)[i]);
#else
        ((real *)out)[i] = pow(((const real *)a)[i], ((const real *)b)[i]);
#endif
}

dlc_map_kernel *const DLC_NAME(dlc_map_kernels)[DLC_MAP_OP_COUNT] = {
#define X(code, NAME, name, arity) [DLC_MAP_##NAME] = map_##name,
    DLC_MAP_OPS(X)
#undef X
};
