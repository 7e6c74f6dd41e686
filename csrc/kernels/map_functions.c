/* The instructions of map programs that are elementary functions, or are made of these. As in map.c, an element's result depends
 * neither on its place nor on n. */
#include <math.h>

#include "kernels/map_turns.h"

DEFINE_LONG_MAP(expm1, 1, v_expm1(x))
DLC_MAP_HEAD(log1p)
{
    DLC_UNREAD_1
    LOOP_BY_TURNS(1, vint rare = {0}; V_EACH {
        rare |= v_log1p_is_rare(xs[v]);
        results[v] = v_log1p_usual(xs[v]);
    } if (__builtin_expect(v_any(rare), false)) V_EACH results[v] =
        v_or_rare(results[v], v_log1p_is_rare(xs[v]), v_log1p_rare, xs[v]);)
}
DEFINE_LONG_MAP(softplus, 1, v_softplus(x))
DEFINE_LONG_MAP(erf, 1, v_erf(x))
DEFINE_LONG_MAP(elu, 2, v_blend(x > 0, x, y * v_expm1(x)))
DEFINE_LONG_MAP(logaddexp, 2, v_logaddexp(x, y))

/* ---- Functions with a shorter form for most arguments ---- */

#ifndef DLC_HAVE_LOOKUP
/* Whether some x is no positive normal number. */
static bool has_odd(const real *x, int64_t n)
{
    vint odd = {0};
    int64_t i = 0;
    FOUR_A_TURN
    for (; i + DLC_LANES <= n; i += DLC_LANES)
        odd |= v_is_odd(v_load(x + i));
    if (i < n)
        odd |= v_is_odd(v_load_part(x + i, n - i, 1));
    return v_any(odd);
}
#endif

/* To look at the arguments first takes a cycle a vector; the shorter form saves 2 (gelu) to 5 (log; Zen 5, AVX2). The two agree
 * bit by bit (over all float32, on x86-64-v2 and v3), so that what else is in a call makes no difference to an element. */
#define DEFINE_NEAR_MAP(name, has_other)     \
    DLC_MAP_HEAD(name)                       \
    {                                        \
        DLC_UNREAD_1                         \
        if (has_other)                       \
            LONG_LOOP(1, v_##name(x))        \
        else                                 \
            LONG_LOOP(1, v_##name##_near(x)) \
    }

#ifdef DLC_HAVE_SCALEF /* which makes the general form as short */
#ifdef DLC_HAVE_LOOKUP
DEFINE_TABLE_MAP(exp, v_exp_by_table(results, xs, count);)
#else
DEFINE_LONG_MAP(exp, 1, v_exp(x))
#endif
DEFINE_LONG_MAP(silu, 1, v_silu(x))
#else
DEFINE_NEAR_MAP(exp, has_far(a, n, DLC_NEAR))
DEFINE_NEAR_MAP(silu, has_far(a, n, DLC_NEAR))
#endif

#ifdef DLC_HAVE_LOOKUP
DEFINE_TABLE_MAP(tanh, v_tanh_by_table(results, xs, count);)
DEFINE_TABLE_MAP(sigmoid, V_USUAL_OR_RARE(sigmoid, results, xs, count))
DEFINE_TABLE_MAP(gelu, V_USUAL_OR_RARE(gelu, results, xs, count))
DEFINE_TABLE_MAP(log, v_log_by_table(results, xs, count);)
#else
DEFINE_LONG_MAP(tanh, 1, v_tanh(x))
DEFINE_NEAR_MAP(sigmoid, has_far(a, n, DLC_NEAR))
DEFINE_NEAR_MAP(gelu, has_far(a, n, DLC_GELU_NEAR))
DEFINE_NEAR_MAP(log, has_odd(a, n))
#endif
