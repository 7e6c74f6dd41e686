/* Elementary functions on vectors of reals, right for every input: subnormals, infinities and NaN in any lane.
 *
 * One algorithm serves float32 and float64, but exp, tanh, sigmoid, gelu and log where there is v_lookup: those are by tables.
 * math_f32.h and math_f64.h hold the constants, which tools/fit_polynomials.py computes. Products that must be exact
 * are made exact by clearing low bits, never by the residual of a fused multiply-add: the compiler may fuse any
 * product with the sum that takes it, or none, and every function is right both ways.
 *
 * "Max error" is in ULP, float32 | float64, over the whole range: the larger of x86-64-v4 and v2, which has no FMA.
 * float32: all 2^32 inputs (tanh, sigmoid and softplus on v2: those with 2^-12 <= |x| < 2^8; math_angles.h and math_powers.h on
 * v2: every 61st); float64: samples of millions, dense where the functions bend. tests/test_accuracy.py holds them under 1.5 | 2,
 * gelu and silu under 4 | 4, logaddexp under 2.5 | 2.5, and those of math_angles.h and math_powers.h under limits of their own. */
#ifndef DLC_KERNELS_MATH_H
#define DLC_KERNELS_MATH_H

#include "kernels/lanes.h"

#if DLC_REAL_BITS == 32
#include "kernels/math_f32.h"
#else
#include "kernels/math_f64.h"
#endif
#ifdef DLC_HAVE_LOOKUP
#include "kernels/tables_f32.h"
#endif

/* GCC would leave the longest functions calls inside the loops, and load their constants at each. */
#define V_INLINE static inline __attribute__((always_inline))

/* Each of `count` vectors */
#define V_EACH DLC_UNROLL for (int v = 0; v < count; v++)

#define DLC_SIGN_BIT ((real_uint)1 << (DLC_REAL_BITS - 1))
#define DLC_MANTISSA_MASK (((real_uint)1 << DLC_MANTISSA_BITS) - 1)
/* x + DLC_ROUNDER rounds a small x to an integer, which then stands in the low bits of the sum. */
#define DLC_ROUNDER ((real)((real_uint)3 << (DLC_MANTISSA_BITS - 1)))
#define DLC_INFINITY ((real)__builtin_inf())
#define DLC_NAN ((real)__builtin_nan(""))

V_INLINE vreal v_abs(vreal x) { return (vreal)((vuint)x & ~DLC_SIGN_BIT); }

V_INLINE vreal v_copysign(vreal magnitude, vreal sign)
{
    return (vreal)((vuint)magnitude | ((vuint)sign & DLC_SIGN_BIT));
}

/* Whether x is no positive normal number */
V_INLINE vint v_is_odd(vreal x) { return ~((x >= DLC_MIN_NORMAL) & (x < DLC_INFINITY)); }

/* x within [low, high]; NaN stays */
V_INLINE vreal v_clamp(vreal x, real low, real high) { return v_at_most(v_at_least(x, low), high); }

/* The upper half of the mantissa of x: its square is exact, and so is x - v_upper(x). */
V_INLINE vreal v_upper(vreal x)
{
    return (vreal)((vuint)x & ~(((real_uint)1 << (DLC_MANTISSA_BITS / 2 + 1)) - 1));
}

V_INLINE vreal v_polynomial(vreal x, const real *coefficients, int n)
{
    vreal sum = v_splat(coefficients[n - 1]);
#pragma GCC unroll 32
    for (int k = n - 2; k >= 0; k--)
        sum = sum * x + coefficients[k];
    return sum;
}

#define V_ROWS(table) ((int)(sizeof table / sizeof table[0]))
#define V_POLYNOMIAL(x, table) v_polynomial(x, table, V_ROWS(table))

/* What rare lanes are left to. It is called: inlined it made GCC 12 take the lanes of the loop around it one by one. Not every file
 * that includes this one calls all of them. */
#define V_RARE static __attribute__((noinline, unused))

/* y, but in the lanes that are rare what the other function gives of x: it is called for vectors with such lanes alone. */
V_INLINE vreal v_or_rare(vreal y, vint rare, vreal other(vreal), vreal x)
{
    return __builtin_expect(v_any(rare), false) ? v_blend(rare, other(x), y) : y;
}

#ifdef DLC_HAVE_LOOKUP
/* ---- Functions by tables ----
 *
 * They take `count` vectors at a time, step by step, so that a row of a table is loaded once for all of them. On Zen 4 a vector of
 * tanh takes 15 cycles by a table, and 42 by the quotient below; 32 Ki elements of sigmoid 12 us in place of 19, of log 13 in
 * place of 19, of gelu 16 in place of 25 (one vector at a time).
 *
 * v_NAME_usual holds where v_NAME_rank(x), as an unsigned number, is at most v_NAME_last(); v_NAME_rare where it is above. */
enum { V_MOST_VECTORS = 4 };

/* sum += d (...): Horner's rule down to row `first` of a table of kernels/tables_f32.h, for the pieces that the lowest 5 bits of
 * `number` name. */
V_INLINE void v_terms(vreal *sum, const real (*table)[32], int rows, int first, const vuint *number, const vreal *d, int count)
{
    const vtable last = v_table(table[rows - 1]);
    V_EACH sum[v] = v_lookup(last, number[v]);
    DLC_UNROLL
    for (int row = rows - 2; row >= first; row--) {
        const vtable terms = v_table(table[row]);
        V_EACH sum[v] = v_multiply_add(sum[v], d[v], v_lookup(terms, number[v]));
    }
}

/* x less the centres of the pieces */
V_INLINE void v_distances(vreal *d, const real (*table)[32], const vuint *number, const vreal *x, int count)
{
    const vtable centres = v_table(table[0]);
    V_EACH d[v] = x[v] - v_lookup(centres, number[v]);
}

/* The polynomials of the pieces, at x */
V_INLINE void v_pieces(vreal *y, const real (*table)[32], int rows, const vuint *number, const vreal *x, int count)
{
    vreal d[V_MOST_VECTORS];
    v_distances(d, table, number, x, count);
    v_terms(y, table, rows, 1, number, d, count);
}

/* y (count) of x (count) by the table of a function, but where that does not hold; all are tested at once. */
#define V_USUAL_OR_RARE(name, y, x, count)                                                          \
    const vuint last = v_##name##_last();                                                           \
    vuint rank[count], largest = {0};                                                               \
    V_EACH rank[v] = v_##name##_rank((x)[v]);                                                       \
    V_EACH largest = v_larger_unsigned(largest, rank[v]);                                           \
    v_##name##_usual(y, x, count);                                                                  \
    if (__builtin_expect(v_any_above(largest, last), false))                                        \
        V_EACH if (v_any_above(rank[v], last))                                                      \
            (y)[v] = v_blend(rank[v] > last, v_##name##_rare((x)[v]), (y)[v]);
#endif

/* 2^n for an integer n of a normal power */
V_INLINE vreal v_power_of_two(vreal n)
{
    return (vreal)((vuint)(n + (DLC_ROUNDER + DLC_EXPONENT_BIAS)) << DLC_MANTISSA_BITS);
}

/* y 2^n, rounded once where it is subnormal, for any n that v_exp_power gives */
V_INLINE vreal v_scale(vreal y, vreal n)
{
#ifdef DLC_HAVE_SCALEF
    return v_scalef(y, n);
#else
    /* in two steps, neither of which leaves the normal range */
    vreal most = v_at_least(n, -100) - 1;
    return y * v_power_of_two(most) * v_power_of_two(n - most);
#endif
}

/* The same for n <= 0, where no bit of a small y is lost on the way. */
V_INLINE vreal v_scale_down(vreal y, vreal n)
{
#ifdef DLC_HAVE_SCALEF
    return v_scalef(y, n);
#else
    vreal most = v_at_least(n, -100);
    return y * v_power_of_two(n - most) * v_power_of_two(most);
#endif
}

/* The same where 2^n is a normal number. By scalef as v_scale_down is: a product may be fused with a subtraction that
 * follows, which then rounds a subnormal result in another way. */
V_INLINE vreal v_scale_near(vreal y, vreal n)
{
#ifdef DLC_HAVE_SCALEF
    return v_scalef(y, n);
#else
    return y * v_power_of_two(n);
#endif
}

/* x / ln 2 rounded to an integer; next to a half, either neighbour */
V_INLINE vreal v_exp_power(vreal x) { return x * DLC_LOG2_E + DLC_ROUNDER - DLC_ROUNDER; }

/* e^r - 1 - r for |r| <= ln(2) / 2 */
V_INLINE vreal v_exp_tail(vreal r) { return r * r * (V_POLYNOMIAL(r, dlc_exp_poly) * r + (real)0.5); }

/* e^x = (1 + r + tail) 2^n, for x between DLC_EXP_LOW (or the lower DLC_SILU_LOW) and DLC_EXP_HIGH */
typedef struct {
    vreal r, tail, n;
} vsplit;

V_INLINE vsplit v_exp_split(vreal x)
{
    vreal n = v_exp_power(x);
    vreal r = x - n * DLC_LN2_HIGH - n * DLC_LN2_LOW;
    return (vsplit){r, v_exp_tail(r), n};
}

#ifdef DLC_HAVE_LOOKUP
/* x + DLC_32ND_ROUNDER rounds a small x to a multiple of 1 / 32, which then stands in the low bits of the sum. */
#define DLC_32ND_ROUNDER (DLC_ROUNDER / 32)

/* e^x = 2^n e^r for a multiple n of 1 / 32. Of the power of two what is no integer comes from a table, so that three terms do for
 * e^r. For x between DLC_EXP_LOW and DLC_EXP_HIGH, and NaN. */
V_INLINE void v_exp_within(vreal *y, const vreal *x, int count)
{
    const vtable powers = v_table(dlc_powers_of_two);
    vreal shifted[V_MOST_VECTORS], n[V_MOST_VECTORS], r[V_MOST_VECTORS], power[V_MOST_VECTORS];
    V_EACH shifted[v] = v_multiply_add(x[v], v_splat(DLC_LOG2_E), v_splat(DLC_32ND_ROUNDER));
    V_EACH power[v] = v_lookup(powers, (vuint)shifted[v]);
    V_EACH n[v] = shifted[v] - DLC_32ND_ROUNDER;
    V_EACH r[v] = x[v] - n[v] * DLC_LN2_HIGH - n[v] * DLC_LN2_LOW;
    V_EACH r[v] = v_multiply_add(r[v] * r[v], V_POLYNOMIAL(r[v], dlc_short_exp_poly), r[v]);
    V_EACH y[v] = v_scalef(v_multiply_add(power[v], r[v], power[v]), n[v]);
}

/* Max error 1.01 ULP. */
V_INLINE void v_exp_by_table(vreal *y, const vreal *x, int count)
{
    vreal within[V_MOST_VECTORS];
    V_EACH within[v] = v_clamp(x[v], DLC_EXP_LOW, DLC_EXP_HIGH);
    v_exp_within(y, within, count);
}

V_INLINE vreal v_exp_in_range(vreal x)
{
    vreal y;
    v_exp_within(&y, &x, 1);
    return y;
}
#else
/* For x between DLC_EXP_LOW and DLC_EXP_HIGH, and NaN. Max error 1.04 | 1.03 ULP. */
V_INLINE vreal v_exp_in_range(vreal x)
{
    vsplit e = v_exp_split(x);
    return v_scale(e.r + e.tail + 1, e.n);
}
#endif

V_INLINE vreal v_exp(vreal x) { return v_exp_in_range(v_clamp(x, DLC_EXP_LOW, DLC_EXP_HIGH)); }
/* The same for x <= 0, and NaN */
V_INLINE vreal v_exp_down(vreal x) { return v_exp_in_range(v_at_least(x, DLC_EXP_LOW)); }

/* Functions that end in _near hold for |x| <= DLC_NEAR (DLC_GELU_NEAR for gelu; normal x > 0 for log) and for NaN, and give
 * there the bits that the others give. Without the care for subnormal and infinite powers they are half as long, and in
 * functions as long as these it is the registers of the operations in flight that run out first. Where tables serve,
 * sigmoid, gelu and log have none. */

#ifdef DLC_HAVE_LOOKUP
V_INLINE vreal v_exp_near(vreal x) { return v_exp_in_range(x); }
#else
V_INLINE vreal v_exp_near(vreal x)
{
    vsplit e = v_exp_split(x);
    return (e.r + e.tail + 1) * v_power_of_two(e.n);
}
#endif

typedef struct {
    vreal high, low;
} vpair;

/* e^x for x <= 0, with what the rounding of high lost */
V_INLINE vpair v_exp_pair(vreal x)
{
    vsplit e = v_exp_split(v_at_least(x, DLC_EXP_LOW));
    vreal p = e.r + e.tail + 1;
    vreal lost = 1 - p + e.r + e.tail;
    return (vpair){v_scale(p, e.n), v_blend(e.n > -100, lost * v_power_of_two(e.n), v_splat(0))};
}

V_INLINE vpair v_exp_pair_near(vreal x)
{
    vsplit e = v_exp_split(x);
    vreal p = e.r + e.tail + 1;
    vreal lost = 1 - p + e.r + e.tail;
    vreal power = v_power_of_two(e.n);
    return (vpair){p * power, lost * power};
}

/* expm1(x) / 2 as high + low, for x in [DLC_EXPM1_LOW, DLC_EXP_HIGH]: s (e^r - 1) + (s - 1/2), s = 2^(n - 1). The
 * half keeps 2^n in range; r is exact in the sum with s - 1/2, whose magnitude is 0 or at least that of s r. */
V_INLINE vpair v_half_expm1(vreal x)
{
    vreal n = v_exp_power(x);
    vreal r_exact = x - n * DLC_LN2_HIGH;
    vreal r = r_exact - n * DLC_LN2_LOW;
    vreal r_low = r_exact - r - n * DLC_LN2_LOW;
    vreal s = v_power_of_two(n - 1);
    vreal offset = s - (real)0.5;
    vreal high = offset + s * r;
    vreal rest = offset - high + s * r;
    return (vpair){high, rest + s * (v_exp_tail(r) + r_low)};
}

/* Max error 1.28 | 1.16 ULP. */
V_INLINE vreal v_expm1(vreal x)
{
    vpair half = v_half_expm1(v_clamp(x, DLC_EXPM1_LOW, DLC_EXP_HIGH));
    vreal y = half.high + half.low;
    return v_blend(v_abs(x) < DLC_TINY, x, y + y);
}

/* (x + x_low) / (y + y_low) for y in [1, 2]: the quotient of the high parts, corrected for the low ones. For that 1 / y
 * is taken from a line right to 6%. */
V_INLINE vreal v_divide_pair(vreal x, vreal x_low, vreal y, vreal y_low)
{
    vreal q = x / y;
    return q + (x_low - q * y_low) * ((real)1.4118 - (real)0.4706 * y);
}

#ifdef DLC_HAVE_LOOKUP
/* Max error 1.01 ULP. */
V_INLINE void v_tanh_by_table(vreal *y, const vreal *x, int count)
{
    vreal a[V_MOST_VECTORS];
    vuint piece[V_MOST_VECTORS];
    V_EACH a[v] = v_at_most(v_abs(x[v]), DLC_TANH_ONE);
    V_EACH piece[v] = (vuint)v_at_least(a[v], DLC_TANH_FIRST) >> DLC_TANH_PIECE_BITS;
    v_pieces(y, dlc_tanh_pieces, V_ROWS(dlc_tanh_pieces), piece, a, count);
    V_EACH y[v] = v_copysign(y[v], x[v]);
}
#else
/* tanh(x) = -m / (m + 2), m = expm1(-2 |x|). Max error 1.42 | 1.42 ULP. */
V_INLINE vreal v_tanh(vreal x)
{
    vreal y = -2 * v_abs(x);
    vpair half = v_half_expm1(v_at_least(y, DLC_EXPM1_LOW));
    vreal m = 2 * (half.high + half.low);
    vreal m_low = 2 * half.high - m + 2 * half.low;
    vreal d = 2 + m;
    vreal t = v_divide_pair(-m, -m_low, d, 2 - d + m + m_low);
    return v_copysign(v_blend(y > -DLC_TINY, v_abs(x), t), x);
}
#endif

/* with z = e^-|x| */
V_INLINE vreal v_sigmoid_of(vreal x, vpair z)
{
    vreal d = 1 + z.high;
    vint negative = x < 0;
    return v_divide_pair(v_blend(negative, z.high, v_splat(1)), v_blend(negative, z.low, v_splat(0)), d,
                         1 - d + z.high + z.low);
}

/* 1 / (1 + e^-x), written with e^-|x|, which cannot overflow and keeps its digits where the result is small. Max
 * error 1.31 | 1.22 ULP. */
V_INLINE vreal v_sigmoid_by_exp(vreal x) { return v_sigmoid_of(x, v_exp_pair(-v_abs(x))); }

#ifdef DLC_HAVE_LOOKUP
/* The same for |x| <= DLC_SIGMOID_NEAR. Max error 1.09 ULP. silu, which is shorter by exp to begin with, gains nothing by x
 * times this. */
V_INLINE void v_sigmoid_usual(vreal *y, const vreal *x, int count)
{
    const vreal rounder = v_splat(DLC_ROUNDER);
    vreal a[V_MOST_VECTORS], tail[V_MOST_VECTORS];
    vuint piece[V_MOST_VECTORS];
    V_EACH a[v] = v_abs(x[v]);
    V_EACH piece[v] = (vuint)v_multiply_add(a[v], v_splat(DLC_SIGMOID_SCALE), rounder);
    v_pieces(tail, dlc_sigmoid_pieces, V_ROWS(dlc_sigmoid_pieces), piece, a, count);
    V_EACH y[v] = v_blend((vint)x[v] >> (DLC_REAL_BITS - 1), tail[v], 1 - tail[v]);
}

V_INLINE vuint v_sigmoid_rank(vreal x) { return (vuint)v_abs(x); }
V_INLINE vuint v_sigmoid_last(void) { return (vuint)v_splat(DLC_SIGMOID_NEAR); }
V_RARE vreal v_sigmoid_rare(vreal x) { return v_sigmoid_by_exp(x); }
#else
V_INLINE vreal v_sigmoid(vreal x) { return v_sigmoid_by_exp(x); }
V_INLINE vreal v_sigmoid_near(vreal x) { return v_sigmoid_of(x, v_exp_pair_near(-v_abs(x))); }
#endif

/* x sigmoid(x). The power of two comes last, so that a subnormal result is rounded once; silu(-inf) is its limit
 * -0. Max error 2.78 | 2.62 ULP. */
V_INLINE vreal v_silu(vreal x)
{
    vreal a = v_at_most(v_abs(x), -DLC_SILU_LOW);
    vsplit e = v_exp_split(-a);
    vreal t = e.r + e.tail;
    vreal d = 1 + v_scale_down(1 + t, e.n);
    vint negative = x < 0;
    vreal quotient = v_blend(negative, -(a + a * t), x) / d;
    return v_scale_down(quotient, v_blend(negative, e.n, v_splat(0)));
}

V_INLINE vreal v_silu_near(vreal x)
{
    vreal a = v_abs(x);
    vsplit e = v_exp_split(-a);
    vreal t = e.r + e.tail, power = v_power_of_two(e.n);
    vint negative = x < 0;
    return v_blend(negative, -(a + a * t), x) / (1 + (1 + t) * power) * v_blend(negative, power, v_splat(1));
}

/* x = 2^e m, first <= m < 2 first, for normal x and `first` in [1/2, 1] */
typedef struct {
    vreal e, m;
} vscaled;

V_INLINE vscaled v_log_scale(vreal x, real first)
{
    const real one = 1, rounder = (real)((real_uint)1 << DLC_MANTISSA_BITS);
    real_uint one_bits, first_bits, rounder_bits;
    memcpy(&one_bits, &one, sizeof one);
    memcpy(&first_bits, &first, sizeof one);
    memcpy(&rounder_bits, &rounder, sizeof one);
    vuint shifted = (vuint)x + (one_bits - first_bits);
    vreal biased = (vreal)((shifted >> DLC_MANTISSA_BITS) | rounder_bits);
    return (vscaled){biased - (rounder + DLC_EXPONENT_BIAS), (vreal)((shifted & DLC_MANTISSA_MASK) + first_bits)};
}

/* log of x = 2^e (1 + f), sqrt(1/2) <= 1 + f < sqrt(2), for normal x */
typedef struct {
    vreal e, f;
} vlog;

V_INLINE vlog v_log_split(vreal x)
{
    const vscaled scaled = v_log_scale(x, DLC_ROOT_HALF);
    return (vlog){scaled.e, scaled.m - 1};
}

/* log(1 + f) - f + f^2 / 2; half_square is f^2 / 2 */
V_INLINE vreal v_log_small(vreal f, vreal half_square)
{
#if DLC_REAL_BITS == 32
    (void)half_square;
    return f * f * f * V_POLYNOMIAL(f, dlc_log_poly);
#else
    /* log(1 + f) = 2 atanh(s) = f - (f^2 / 2 - s (f^2 / 2 + s^2 L(s^2))), as in FreeBSD's e_log.c */
    vreal s = f / (f + 2);
    vreal z = s * s;
    return s * (half_square + z * V_POLYNOMIAL(z, dlc_log_poly));
#endif
}

/* e ln 2 + log(1 + f) + low */
V_INLINE vreal v_log_sum(vreal e, vreal f, vreal low)
{
    vreal half_square = (real)0.5 * f * f;
    low += e * DLC_LN2_LOW;
    vreal tail = half_square - (v_log_small(f, half_square) + low);
    return e * DLC_LN2_HIGH + (f - tail);
}

/* log(x) - less ln 2 for normal x > 0 */
V_INLINE vreal v_log_less(vreal x, vreal less)
{
    vlog a = v_log_split(x);
    return v_log_sum(a.e - less, a.f, v_splat(0));
}

/* A logarithm y of x, right for normal and subnormal x > 0, with its limits */
V_INLINE vreal v_with_log_limits(vreal y, vreal x)
{
    vreal special = v_blend(x < 0, v_splat(DLC_NAN), v_blend(x == 0, v_splat(-DLC_INFINITY), x));
    return v_blend((x > 0) & (x < DLC_INFINITY), y, special);
}

#ifdef DLC_HAVE_LOOKUP
/* log(x) - e ln 2 = constant + rest, by the piece that the mantissa of x lies in. e is infinite for 0 and infinities, and rest is
 * NaN for x < 0, so that their logarithms need no care. */
typedef struct {
    vreal e[V_MOST_VECTORS], constant[V_MOST_VECTORS], rest[V_MOST_VECTORS];
} vlog_pieces;

V_INLINE void v_log_pieces(vlog_pieces *logs, const vreal *x, int count)
{
    vreal m[V_MOST_VECTORS], d[V_MOST_VECTORS], terms[V_MOST_VECTORS];
    vuint piece[V_MOST_VECTORS];
    V_EACH m[v] = v_mantissa(x[v]);
    V_EACH logs->e[v] = v_exponent(x[v]) - v_exponent(m[v]);
    V_EACH piece[v] = (vuint)m[v] >> DLC_LOG_PIECE_BITS;
    v_distances(d, dlc_log_pieces, piece, m, count);
    /* next to 1 the linear term is d itself, and what is added to it is small */
    v_terms(terms, dlc_log_pieces, V_ROWS(dlc_log_pieces), 3, piece, d, count);
    const vtable linear = v_table(dlc_log_pieces[2]), constant = v_table(dlc_log_pieces[1]);
    V_EACH logs->constant[v] = v_lookup(constant, piece[v]);
    V_EACH logs->rest[v] = v_multiply_add(v_lookup(linear, piece[v]), d[v], terms[v] * (d[v] * d[v]));
}

/* As a float32 ln 2 is right to 2^-28. Max error 1.02 ULP. */
V_INLINE void v_log_by_table(vreal *y, const vreal *x, int count)
{
    vlog_pieces logs;
    v_log_pieces(&logs, x, count);
    V_EACH y[v] = v_multiply_add(logs.e[v], v_splat(DLC_LN2_HIGH + DLC_LN2_LOW), logs.constant[v] + logs.rest[v]);
}

V_INLINE vreal v_log(vreal x)
{
    vreal y;
    v_log_by_table(&y, &x, 1);
    return y;
}
#else
/* Max error 0.85 | 0.78 ULP. */
V_INLINE vreal v_log(vreal x)
{
    const real up = (real)((real_uint)1 << (DLC_MANTISSA_BITS + 1));
    vint subnormal = x < DLC_MIN_NORMAL;
    vreal less = v_blend(subnormal, v_splat(DLC_MANTISSA_BITS + 1), v_splat(0));
    return v_with_log_limits(v_log_less(v_blend(subnormal, x * up, x), less), x);
}

V_INLINE vreal v_log_near(vreal x) { return v_log_less(x, v_splat(0)); }
#endif

/* log(1 + x + low) - less ln 2 for -1 < x < infinity, of u = 1 + x rounded and of what that rounding lost; the sign is that of x */
V_INLINE vreal v_log1p_less(vreal x, vreal low, vreal less)
{
    vreal u = x + 1;
    vreal part = u - x;
    vreal lost = (1 - part) + (x - (u - part)) + low;
    vlog a = v_log_split(u);
    lost *= v_power_of_two(-v_at_most(a.e, 100)); /* beyond 2^100 it has no effect, but 2^-e may be subnormal */
    vreal f = a.f + lost;
    return v_copysign(v_log_sum(a.e - less, f, (a.f - f) + lost), x);
}

/* Max error 0.88 | 0.78 ULP for -1 < x < infinity */
V_INLINE vreal v_log1p_usual(vreal x) { return v_log1p_less(x, v_splat(0), v_splat(0)); }
V_INLINE vint v_log1p_is_rare(vreal x) { return ~((x > -1) & (x < DLC_INFINITY)); }
V_INLINE vreal v_log1p_rare(vreal x) { return v_blend(x < -1, v_splat(DLC_NAN), v_blend(x == -1, v_splat(-DLC_INFINITY), x)); }

/* log(1 + e^x) = max(x, 0) + log1p(e^-|x|). Max error 1.23 | 1.22 ULP. */
V_INLINE vreal v_softplus(vreal x)
{
    vpair z = v_exp_pair(-v_abs(x));
    vreal u = 1 + z.high;
    vreal lost = 1 - u + z.high + z.low;
    vint large = u > 1 / DLC_ROOT_HALF;
    vreal f0 = v_blend(large, (real)0.5 * u, u) - 1;
    lost = v_blend(large, (real)0.5 * lost, lost);
    vreal f = f0 + lost;
    vreal y = v_log_sum(v_blend(large, v_splat(1), v_splat(0)), f, (f0 - f) + lost);
    return v_blend(x < 0, v_splat(0), x) + y;
}

/* log(e^x + e^y) = max(x, y) + softplus(-|x - y|). Max error 1.98 | 1.61 ULP of the largest of |x|, |y| and the result,
 * which is small where the two terms cancel. */
V_INLINE vreal v_logaddexp(vreal x, vreal y)
{
    vreal difference = v_blend(x == y, v_splat(0), x - y); /* of equal infinities, too */
    return v_blend(x > y, x, y) + v_softplus(-v_abs(difference));
}

/* exp(a^2 / 2) erfc(a / sqrt(2)) = sqrt(2 / pi) over / under, under = a over + (the numerator of S), a >= 0. The
 * factor sqrt(2 / pi) is left out: its logarithm enters the exponential that follows, where it costs no rounding. */
typedef struct {
    vreal over, under;
} vquotient;

V_INLINE vquotient v_normal_tail(vreal a)
{
    vreal over = V_POLYNOMIAL(a, dlc_normal_tail_denominator);
    return (vquotient){over, a * over + V_POLYNOMIAL(a, dlc_normal_tail_numerator)};
}

/* Max error 1.32 | 1.16 ULP. */
V_INLINE vreal v_erf(vreal x)
{
    vreal a = v_at_most(v_abs(x), DLC_ERF_HIGH);
    vreal square = a * a;
    vreal near = a + a * V_POLYNOMIAL(square, dlc_erf_poly);
    vquotient tail = v_normal_tail(a * (2 * DLC_ROOT_HALF));
    vreal far = 1 - v_exp_near(DLC_LOG_ROOT_2_BY_PI - square) * tail.over / tail.under;
    return v_copysign(v_blend(a < 1, near, far), x);
}

typedef struct {
    vreal magnitude, power; /* |x| erfc(|x| / sqrt(2)) = magnitude 2^power */
} vgelu;

V_INLINE vgelu v_gelu_tail(vreal a)
{
    vreal upper = v_upper(a);
    vreal exponent = (real)-0.5 * upper * upper;
    vreal rest = DLC_LOG_ROOT_2_BY_PI - (real)0.5 * (a - upper) * (a + upper);
    vreal n = v_exp_power(exponent + rest);
    vreal r = exponent - n * DLC_LN2_HIGH + (rest - n * DLC_LN2_LOW);
    vquotient tail = v_normal_tail(a);
    vreal product = a * tail.over; /* in numerator and denominator alike: its error nearly cancels */
    return (vgelu){(product + product * (r + v_exp_tail(r))) / tail.under, n};
}

/* x Phi(x) = max(x, 0) - |x| erfc(|x| / sqrt(2)) / 2. The square in the exponential is split, so that its digits
 * last in the tail, and the power of two comes last, so that a subnormal result is rounded once; gelu(-inf) is its
 * limit -0. Max error 3.76 | 3.94 ULP. */
V_INLINE vreal v_gelu_by_exp(vreal x)
{
    vgelu g = v_gelu_tail(v_at_most(v_abs(x), DLC_GELU_HIGH));
    return v_blend(x < 0, v_splat((real)-0.0), x) - v_scale_down(g.magnitude, g.power - 1);
}

#ifdef DLC_HAVE_LOOKUP
/* x Phi(x) for x >= -DLC_NORMAL_NEAR. Max error 2.50 ULP. */
V_INLINE void v_gelu_usual(vreal *y, const vreal *x, int count)
{
    const vreal rounder = v_splat(DLC_ROUNDER);
    vreal a[V_MOST_VECTORS], tail[V_MOST_VECTORS];
    vuint piece[V_MOST_VECTORS];
    V_EACH a[v] = v_at_most(v_abs(x[v]), DLC_NORMAL_NEAR); /* beyond, 1 - tail is 1 */
    V_EACH piece[v] = (vuint)v_multiply_add(a[v] * DLC_NORMAL_SCALE, a[v] + DLC_NORMAL_OFFSET, rounder);
    v_pieces(tail, dlc_normal_pieces, V_ROWS(dlc_normal_pieces), piece, a, count);
    V_EACH y[v] = x[v] * v_blend((vint)x[v] >> (DLC_REAL_BITS - 1), tail[v], 1 - tail[v]);
}

V_INLINE vuint v_gelu_rank(vreal x) { return (vuint)x; }
V_INLINE vuint v_gelu_last(void) { return (vuint)v_splat(-DLC_NORMAL_NEAR); }
V_RARE vreal v_gelu_rare(vreal x) { return v_gelu_by_exp(x); }
#else
V_INLINE vreal v_gelu(vreal x) { return v_gelu_by_exp(x); }

V_INLINE vreal v_gelu_near(vreal x)
{
    vgelu g = v_gelu_tail(v_abs(x));
    return v_blend(x < 0, v_splat((real)-0.0), x) - v_scale_near(g.magnitude, g.power - 1);
}
#endif

#endif
