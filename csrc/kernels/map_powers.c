/* The instructions of map programs that are powers, roots, logarithms to other bases, hyperbolic functions or their inverses. As in
 * map.c, an element's result depends neither on its place nor on n. */
#include <math.h>

#include "kernels/map_turns.h"
#include "kernels/math_powers.h"

DEFINE_RARER_MAP(exp2, 1)
#ifdef DLC_HAVE_LOOKUP
DEFINE_TABLE_MAP(log2, v_log_to_by_table(results, xs, V_BASE_2, count);)
DEFINE_TABLE_MAP(log10, v_log_to_by_table(results, xs, V_BASE_10, count);)
#else
DEFINE_RARER_MAP(log2, 1)
DEFINE_RARER_MAP(log10, 1)
#endif
DEFINE_RARER_MAP(cbrt, 1)
DEFINE_RARER_MAP(hypot, 2)
DEFINE_RARER_MAP(sinh, 1)
DEFINE_RARER_MAP(cosh, 1)
DEFINE_RARER_MAP(arcsinh, 1)
DEFINE_RARER_MAP(arccosh, 1)
DEFINE_RARER_MAP(arctanh, 1)

/* result, with C's power in the lanes that are rare */
V_RARE vreal with_rare_powers(vreal result, vreal x, vreal y, vint rare)
{
    for (int lane = 0; lane < DLC_LANES; lane++)
        if (rare[lane])
            result[lane] = DLC_OF_REAL(pow)(x[lane], y[lane]);
    return result;
}

V_INLINE vreal v_power(vreal x, vreal y)
{
    const vreal result = v_power_usual(x, y);
    const vint rare = v_power_is_rare(x, y);
    return __builtin_expect(v_any(rare), false) ? with_rare_powers(result, x, y, rare) : result;
}

DEFINE_RARER_MAP(power, 2)
