/* Powers, logarithms to other bases, and hyperbolic functions and their inverses on vectors of reals. What csrc/kernels/math.h says
 * of its functions holds for these. */
#ifndef DLC_KERNELS_MATH_POWERS_H
#define DLC_KERNELS_MATH_POWERS_H

#include "kernels/math.h"

/* 2^n e^r of r = (x - n) ln 2. Max error 1.04 | 1.10 ULP. */
V_INLINE vreal v_exp2(vreal x)
{
    vreal a = v_clamp(x, DLC_EXP2_LOW, DLC_EXP2_HIGH);
    vreal n = a + DLC_ROUNDER - DLC_ROUNDER;
    vreal r = (a - n) * (DLC_LN2_HIGH + DLC_LN2_LOW);
    return v_scale(r + v_exp_tail(r) + 1, n);
}

/* The logarithm of 2 to a base, of which any exponent times two_high is exact, and that of e */
typedef struct {
    real two_high, two_low, e_high, e_low; /* e_high has half of the digits */
} vbase;

#define V_BASE_2 ((vbase){1, 0, DLC_LOG2_E_HIGH, DLC_LOG2_E_LOW})
#define V_BASE_10 ((vbase){DLC_LOG10_2_HIGH, DLC_LOG10_2_LOW, DLC_LOG10_E_HIGH, DLC_LOG10_E_LOW})

#ifdef DLC_HAVE_LOOKUP
/* Max error 1.24 ULP to base 2, 1.39 to base 10. */
V_INLINE void v_log_to_by_table(vreal *y, const vreal *x, vbase base, int count)
{
    const real of_e = base.e_high + base.e_low, of_e_low = base.e_high - of_e + base.e_low;
    vlog_pieces logs;
    v_log_pieces(&logs, x, count);
    V_EACH
    {
        const vreal e = logs.e[v], log = logs.constant[v] + logs.rest[v];
        vreal small = ((logs.constant[v] - log) + logs.rest[v]) * of_e;
        small = v_multiply_add(log, v_splat(of_e_low), base.two_low != 0 ? v_multiply_add(e, v_splat(base.two_low), small) : small);
        y[v] = v_multiply_add(e, v_splat(base.two_high), v_multiply_add(log, v_splat(of_e), small));
    }
}
#else
/* For normal x > 0, or subnormal x if that is asked for. The upper half of a logarithm times e_high is exact. After FreeBSD's
 * e_log2.c and e_log10.c. Max error 0.92 | 0.96 ULP to base 2, 0.73 | 0.78 to base 10. */
V_INLINE vreal v_log_to(vreal x, vbase base, bool subnormal)
{
    const real up = (real)((real_uint)1 << (DLC_MANTISSA_BITS + 1));
    vlog a = v_log_split(subnormal ? x * up : x);
    vreal e = subnormal ? a.e - (DLC_MANTISSA_BITS + 1) : a.e;
    vreal half_square = (real)0.5 * a.f * a.f, less = half_square - v_log_small(a.f, half_square);
    vreal upper = v_upper(a.f - less);
    vreal lower = (a.f - upper) - less;
    vreal of_two = e * base.two_high, of_upper = upper * base.e_high;
    vreal sum = of_two + of_upper;
    vreal lost = (of_two - sum) + of_upper;
    vreal small = (upper + lower) * base.e_low + lower * base.e_high;
    return sum + (lost + (base.two_low != 0 ? e * base.two_low + small : small));
}

/* What is left for v_log_to of subnormal x: x <= 0, infinities and NaN have their limits. */
V_INLINE vreal v_log_to_rare(vreal x, vbase base) { return v_with_log_limits(v_log_to(x, base, true), x); }
V_RARE vreal v_log2_rare(vreal x) { return v_log_to_rare(x, V_BASE_2); }
V_RARE vreal v_log10_rare(vreal x) { return v_log_to_rare(x, V_BASE_10); }

V_INLINE vreal v_log2(vreal x) { return v_or_rare(v_log_to(x, V_BASE_2, false), v_is_odd(x), v_log2_rare, x); }
V_INLINE vreal v_log10(vreal x) { return v_or_rare(v_log_to(x, V_BASE_10, false), v_is_odd(x), v_log10_rare, x); }
#endif

/* x = m 2^(3 q + rest): the root of z = m 2^rest times 2^q. A root t right to half of the digits has an exact square, so that
 * z / t^2 - t tells how far it is off. Normal x, times 8^-less. Max error 0.78 | 0.68 ULP. */
V_INLINE vreal v_cbrt_usual(vreal x, real less)
{
    vscaled scaled = v_log_scale(v_abs(x), 1);
    vreal q = v_floor((scaled.e + (real)0.5) * (real)0.33333334);
    vreal rest = scaled.e - 3 * q;
    vreal z = scaled.m * v_power_of_two(rest);
    vreal by_rest = v_blend(rest > 0, v_blend(rest > 1, v_splat(DLC_CBRT_QUARTER), v_splat(DLC_CBRT_HALF)), v_splat(1));
    vreal inverse = by_rest * V_POLYNOMIAL(scaled.m, dlc_inverse_cbrt_poly);
#if DLC_REAL_BITS == 64
    inverse += inverse * (1 - z * inverse * inverse * inverse) * (1 / (real)3);
#endif
    vreal t = v_upper(z * inverse * inverse);
    vreal change = (z / (t * t) - t) * (1 / (real)3);
    vreal root = t + (change - change * change * inverse);
    return v_copysign(root * v_power_of_two(q - less), x);
}

/* For subnormal x; zeros, infinities and NaN stay. */
V_RARE vreal v_cbrt_rare(vreal x)
{
    enum { THIRD = DLC_MANTISSA_BITS / 3 + 1 };
    vreal y = v_cbrt_usual(x * (real)((real_uint)1 << (3 * THIRD)), THIRD);
    return v_blend((v_abs(x) > 0) & (v_abs(x) < DLC_MIN_NORMAL), y, x);
}

V_INLINE vreal v_cbrt(vreal x)
{
    return v_or_rare(v_cbrt_usual(x, 0), v_is_odd(v_abs(x)), v_cbrt_rare, x);
}

/* sqrt(x^2 + y^2), where squares would leave the range of numbers times a power of two; infinite beside NaN, too. Max error
 * 1.19 | 1.20 ULP, in samples of 6 million. */
V_INLINE vreal v_hypot(vreal x, vreal y)
{
    vreal a = v_abs(x), b = v_abs(y);
    vint large = (a > DLC_SQUARES_HIGH) | (b > DLC_SQUARES_HIGH), small = (a < DLC_SQUARES_LOW) & (b < DLC_SQUARES_LOW);
    vreal scale = v_blend(large, v_splat(1 / DLC_SQUARES_SCALE), v_blend(small, v_splat(DLC_SQUARES_SCALE), v_splat(1)));
    vreal back = v_blend(large, v_splat(DLC_SQUARES_SCALE), v_blend(small, v_splat(1 / DLC_SQUARES_SCALE), v_splat(1)));
    /* in this order, so that (y, x) has the same bits; of a NaN and a number, one is the larger and the other the smaller */
    vreal larger = v_larger(a, b) * scale, smaller = v_smaller(b, a) * scale;
    vreal length = v_sqrt(v_multiply_add(larger, larger, smaller * smaller)) * back;
    return v_blend((a == DLC_INFINITY) | (b == DLC_INFINITY), v_splat(DLC_INFINITY), length);
}

#if DLC_REAL_BITS == 32
V_INLINE vdouble v_double_polynomial(vdouble x, const double *coefficients, int n)
{
    vdouble sum = coefficients[n - 1] - (vdouble){0};
#pragma GCC unroll 32
    for (int k = n - 2; k >= 0; k--)
        sum = sum * x + coefficients[k];
    return sum;
}
#define V_DOUBLE_POLYNOMIAL(x, table) v_double_polynomial(x, table, V_ROWS(table))

/* x^y for finite x > 0 and finite y: 2^(y log2(x)) */
V_INLINE vdouble v_power_in_double(vdouble x, vdouble y)
{
    const double rounder = 0x1.8p52, root_half = 0x1.6a09e667f3bcdp-1, one = 1;
    uint64_t first, one_bits;
    memcpy(&first, &root_half, sizeof first);
    memcpy(&one_bits, &one, sizeof one);
    const vlong shifted = (vlong)x + (one_bits - first);
    const vdouble e = (vdouble)((shifted >> 52) | (uint64_t)0x4330000000000000) - (0x1p52 + 1023);
    const vdouble m = (vdouble)((shifted & (((uint64_t)1 << 52) - 1)) + first);
    const vdouble s = (m - 1) / (m + 1), square = s * s;
    const vdouble z = y * (e + s * V_DOUBLE_POLYNOMIAL(square, dlc_log2_poly));
    const vdouble bounded = v_clamp_doubles(z, -200, 200);
    const vdouble shifted_n = bounded + rounder, n = shifted_n - rounder;
    const vdouble power = (vdouble)((vlong)(n + (rounder + 1023)) << 52);
    return V_DOUBLE_POLYNOMIAL(bounded - n, dlc_exp2_poly) * power;
}

V_INLINE vreal v_magnitude_of_power(vreal x, vreal y)
{
    return v_of_doubles(v_power_in_double(v_lower_doubles(x), v_lower_doubles(y)),
                        v_power_in_double(v_upper_doubles(x), v_upper_doubles(y)));
}
#else
/* log2(x) of normal x > 0 as high + low, high of the upper half of the digits: with s = (m - c) / (m + c) of x = 2^e m and c = 1 or
 * 3/2, it is e + log2(c) + 2 s (3 + s^2 + ...) / (3 ln 2), whose large terms are exact. After FreeBSD's e_pow.c. */
V_INLINE vpair v_log2_pair(vreal x)
{
    const real two_thirds = DLC_TWO_THIRDS_LOG2_E_HIGH + DLC_TWO_THIRDS_LOG2_E_LOW;
    vscaled scaled = v_log_scale(x, DLC_POWER_FIRST);
    vint beyond = scaled.m > DLC_POWER_MIDDLE;
    vreal centre = v_blend(beyond, v_splat((real)1.5), v_splat(1));
    vreal of_centre = v_blend(beyond, v_splat(DLC_LOG2_3_HALVES_HIGH), v_splat(0));
    vreal of_centre_low = v_blend(beyond, v_splat(DLC_LOG2_3_HALVES_LOW), v_splat(0));
    vreal over = scaled.m - centre, under = scaled.m + centre;
    vreal under_high = v_upper(under), under_low = scaled.m - (under_high - centre);
    vreal inverse = 1 / under;
    vreal s = over * inverse, s_high = v_upper(s);
    vreal s_low = inverse * ((over - s_high * under_high) - s_high * under_low);
    vreal square = s * s, square_high = s_high * s_high;
    vreal rest = square * square * V_POLYNOMIAL(square, dlc_power_poly) + s_low * (s_high + s);
    vreal series = v_upper(3 + square_high + rest), series_low = rest - ((series - 3) - square_high);
    vreal product = s_high * series, product_low = s_low * series + series_low * s;
    vreal upper = v_upper(product + product_low), lower = product_low - (upper - product);
    vreal of_m = upper * DLC_TWO_THIRDS_LOG2_E_HIGH;
    vreal of_m_low = upper * DLC_TWO_THIRDS_LOG2_E_LOW + lower * two_thirds + of_centre_low;
    vreal high = v_upper(((of_m + of_m_low) + of_centre) + scaled.e);
    return (vpair){high, of_m_low - (((high - scaled.e) - of_centre) - of_m)};
}

/* x^y for normal x > 0 and |y| < DLC_POWER_MOST: 2^(y log2(x)), off by so little before it is rounded that a power which is a
 * number of the dtype comes out as that */
V_INLINE vreal v_magnitude_of_power(vreal x, vreal y)
{
    vpair log = v_log2_pair(x);
    vreal y_high = v_upper(y);
    vpair exponent = {y_high * log.high, (y - y_high) * log.high + y * log.low};
    vreal sum = exponent.high + exponent.low;
    vreal bounded = v_clamp(sum, DLC_EXP2_LOW, DLC_EXP2_HIGH);
    vint within = bounded == sum;
    vreal n = bounded + DLC_ROUNDER - DLC_ROUNDER;
    vreal rest = v_blend(within, exponent.high, bounded) - n, rest_low = v_blend(within, exponent.low, v_splat(0));
    vreal f = v_upper(rest + rest_low), f_low = (rest - f) + rest_low;
    vreal of_f = f * DLC_LN2_UPPER_HIGH, of_f_low = f * DLC_LN2_UPPER_LOW + f_low * (DLC_LN2_HIGH + DLC_LN2_LOW);
    vreal r = of_f + of_f_low, r_low = (of_f - r) + of_f_low;
    vreal linear = 1 + r, lost = (1 - linear) + r;
    return v_scale(linear + (lost + (v_exp_tail(r) + r_low)), n);
}
#endif

/* x^y where v_power_is_rare does not hold, with the sign of x where y is odd. Max error 0.54 | 0.78 ULP, in samples of 18
 * million. */
V_INLINE vreal v_power_usual(vreal x, vreal y)
{
    vreal magnitude = v_magnitude_of_power(v_abs(x), y);
    vint whole = v_rint(y) == y, odd = whole & (v_rint((real)0.5 * y) != (real)0.5 * y), negative = (vint)x < 0;
    vreal signed_power = (vreal)((vuint)magnitude ^ ((vuint)(negative & odd) & DLC_SIGN_BIT));
    return v_blend(negative & ~whole, v_splat(DLC_NAN), signed_power);
}

/* What is left to C's pow: zeros, infinities, NaN, subnormal x and |y| that would overflow on the way */
V_INLINE vint v_power_is_rare(vreal x, vreal y)
{
    return v_is_odd(v_abs(x)) | ~(v_abs(y) < DLC_POWER_MOST);
}

/* cosh(r) - 1 and sinh(r) for |r| <= ln(2) / 2, by the even and the odd terms of e^r, as 1 and r are the first of them */
typedef struct {
    vreal even, odd_rest; /* cosh(r) - 1, sinh(r) - r */
} vhalves;

V_INLINE vhalves v_exp_halves(vreal r)
{
    vreal square = r * r, even = v_splat(0), odd = v_splat(0);
#pragma GCC unroll 32
    for (int k = V_ROWS(dlc_exp_poly) - 1; k >= 0; k--)
        if (k % 2 == 0)
            odd = odd * square + dlc_exp_poly[k];
        else
            even = even * square + dlc_exp_poly[k];
    return (vhalves){square * (even * square + (real)0.5), r * square * odd};
}

/* a = n ln 2 + r: 2^(n - 1) (e^r +- 2^(-2 n) e^-r), of which the largest terms are added last. Where 2 n exceeds the digits the
 * second power counts for nothing. */
typedef struct {
    vreal n, r, r_low, power, plus, minus; /* 2^(-2 n), 1 + 2^(-2 n), 1 - 2^(-2 n) */
} vhyperbolic;

V_INLINE vhyperbolic v_hyperbolic(vreal a)
{
    vreal n = v_exp_power(a);
    vreal r_exact = a - n * DLC_LN2_HIGH;
    vreal r = r_exact - n * DLC_LN2_LOW;
    vreal power = v_power_of_two(-2 * v_at_most(n, DLC_MANTISSA_BITS));
    return (vhyperbolic){n, r, r_exact - r - n * DLC_LN2_LOW, power, 1 + power, 1 - power};
}

/* y 2^(n - 1), of which the power alone may leave the range */
V_INLINE vreal v_half_scale(vreal y, vreal n)
{
#ifdef DLC_HAVE_SCALEF
    return v_scalef(y, n - 1);
#else
    return 2 * y * v_power_of_two(n - 2);
#endif
}

/* Max error 1.34 | 1.42 ULP. */
V_INLINE vreal v_sinh(vreal x)
{
    vhyperbolic h = v_hyperbolic(v_at_most(v_abs(x), DLC_SINH_HIGH));
    vhalves halves = v_exp_halves(h.r);
    vreal linear = h.r * h.plus;
    vreal high = h.minus + linear;
    vreal lost = (h.minus - high) + linear;
    vreal y = high + (lost + (halves.even * h.minus + (halves.odd_rest + h.r_low) * h.plus));
    return v_copysign(v_half_scale(y, h.n), x);
}

/* Max error 1.16 | 1.15 ULP. */
V_INLINE vreal v_cosh(vreal x)
{
    vhyperbolic h = v_hyperbolic(v_at_most(v_abs(x), DLC_SINH_HIGH));
    vhalves halves = v_exp_halves(h.r);
    vreal lost = (1 - h.plus) + h.power;
    vreal rest = halves.even * h.plus + (halves.odd_rest + h.r_low) * h.minus;
    return v_half_scale(h.plus + (h.r * h.minus + (rest + lost)), h.n);
}

/* log(1 + larger + smaller), whose sum is not rounded, or log(2 x) where x is so large that these are the same */
V_INLINE vreal v_log1p_of_sum(vreal x, vreal larger, vreal smaller)
{
    vreal sum = larger + smaller;
    vint far = x > DLC_SQUARES_BEYOND;
    return v_log1p_less(v_blend(far, x, sum), v_blend(far, v_splat(0), (larger - sum) + smaller),
                        v_blend(far, v_splat(-1), v_splat(0)));
}

/* sign(x) log(a + sqrt(a^2 + 1)) of a = |x|. Max error 1.24 | 1.29 ULP. */
V_INLINE vreal v_arcsinh(vreal x)
{
    vreal a = v_abs(x), square = a * a;
    vreal y = v_log1p_of_sum(a, a, square / (1 + v_sqrt(square + 1)));
    return v_blend(a < DLC_INFINITY, v_copysign(y, x), x);
}

/* log(x + sqrt(x^2 - 1)). Max error 1.65 | 1.88 ULP. */
V_INLINE vreal v_arccosh(vreal x)
{
    vreal beyond = x - 1;
    vreal y = v_log1p_of_sum(x, v_sqrt(beyond * beyond + (beyond + beyond)), beyond);
    return v_blend((x >= 1) & (x < DLC_INFINITY), y, v_blend(x < 1, v_splat(DLC_NAN), x));
}

/* log((1 + a) / (1 - a)) / 2 of a = |x|. Max error 1.95 | 1.95 ULP. */
V_INLINE vreal v_arctanh(vreal x)
{
    vreal a = v_abs(x);
    vreal y = (real)0.5 * v_log1p_less((a + a) / (1 - a), v_splat(0), v_splat(0));
    return v_copysign(v_blend(a < 1, y, v_blend(a == 1, v_splat(DLC_INFINITY), v_splat(DLC_NAN))), x);
}

#endif
