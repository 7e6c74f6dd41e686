/* Functions of angles and their inverses on vectors of reals. What csrc/kernels/math.h says of its functions holds for these. */
#ifndef DLC_KERNELS_MATH_ANGLES_H
#define DLC_KERNELS_MATH_ANGLES_H

#include "kernels/math.h"

/* x less the nearest multiple of pi / 2, as a sum of which the rest is small, and the number of that multiple in its
 * low bits. |x| <= DLC_FAR. The parts of pi / 2 are taken off one by one, after Cody and Waite, Software manual for the
 * elementary functions, 1980; what each subtraction rounds away goes into the rest. */
typedef struct {
    vreal r, rest;
    vuint quarters;
} vangle;

V_INLINE vangle v_reduce_angle(vreal x)
{
    vreal rounded = x * DLC_QUARTERS + DLC_ROUNDER;
    vreal n = rounded - DLC_ROUNDER;
    vreal r = x - n * dlc_quarter_turn[0], rest = v_splat(0);
#pragma GCC unroll 8
    for (int k = 1; k < (int)(sizeof dlc_quarter_turn / sizeof dlc_quarter_turn[0]); k++) {
        vreal less = r - n * dlc_quarter_turn[k];
        rest += (r - less) - n * dlc_quarter_turn[k];
        r = less;
    }
    vreal sum = r + rest;
    return (vangle){sum, (r - sum) + rest, (vuint)rounded};
}

/* The sine and the cosine of the rest of an angle, each as a sum of which the second part is small */
typedef struct {
    vpair sine, cosine;
} vcircle;

V_INLINE vcircle v_sine_and_cosine(vangle angle)
{
    vreal r = angle.r, square = r * r, half = square * (real)0.5;
    vreal small_sine = r * square * V_POLYNOMIAL(square, dlc_sin_poly) + (angle.rest - angle.rest * half);
    vreal whole = 1 - half;
    vreal smaller = square * square * V_POLYNOMIAL(square, dlc_cos_poly) - r * angle.rest;
    return (vcircle){{r, small_sine}, {whole, ((1 - whole) - half) + smaller}};
}

/* sin(x + more pi / 2) for |x| <= DLC_FAR, or NaN; of -0 it is 0 */
V_INLINE vreal v_sin_of_quarters(vreal x, int more)
{
    vangle angle = v_reduce_angle(x);
    vcircle of_rest = v_sine_and_cosine(angle);
    vreal sine = of_rest.sine.high + of_rest.sine.low, cosine = of_rest.cosine.high + of_rest.cosine.low;
    vuint quarters = angle.quarters + (real_uint)more;
    vuint odd = -(quarters & 1), negative = (quarters & 2) << (DLC_REAL_BITS - 2);
    return (vreal)((((vuint)sine & ~odd) | ((vuint)cosine & odd)) ^ negative);
}

/* Max error 0.83 | 0.78 ULP for |x| <= DLC_FAR, in samples of 5 million. */
V_INLINE vreal v_sin(vreal x) { return v_blend(x == 0, x, v_sin_of_quarters(x, 0)); }
/* Max error 0.85 | 1.07 ULP, likewise. */
V_INLINE vreal v_cos(vreal x) { return v_sin_of_quarters(x, 1); }

/* high + low with the rounded sum as high */
V_INLINE vpair v_rounded(vpair x)
{
    vreal sum = x.high + x.low;
    return (vpair){sum, (x.high - sum) + x.low};
}

/* sine / cosine, and -cosine / sine after odd multiples of pi / 2; corrected for what both lost, with 1 / cosine right to 3%. Max
 * error 1.54 | 1.43 ULP for |x| <= DLC_FAR. */
V_INLINE vreal v_tan(vreal x)
{
    vangle angle = v_reduce_angle(x);
    vcircle of_rest = v_sine_and_cosine(angle);
    vpair sine = v_rounded(of_rest.sine), cosine = v_rounded(of_rest.cosine);
    vint odd = -(vint)(angle.quarters & 1);
    vreal over = v_blend(odd, -cosine.high, sine.high), over_low = v_blend(odd, -cosine.low, sine.low);
    vreal under = v_blend(odd, sine.high, cosine.high), under_low = v_blend(odd, sine.low, cosine.low);
    vreal y = over / under;
    vreal by_cosine = (real)2.4 - (real)1.414 * cosine.high;
    vreal by_under = v_blend(odd, -y * by_cosine, by_cosine);
    return v_blend(x == 0, x, y + (over_low - y * under_low) * by_under);
}

/* eighths pi / 4 + high + low */
V_INLINE vreal v_from_eighths(vreal eighths, vreal high, vreal low)
{
    vreal base = eighths * DLC_EIGHTH_TURN_HIGH;
    vreal sum = base + high;
    return sum + ((base - sum + high) + (low + eighths * DLC_EIGHTH_TURN_LOW));
}

/* eighths pi / 4 + towards arctan(over / under) for a finite over, 0 <= over <= under and under > 0; eighths are from 0 to 4,
 * towards is 1 or -1. Beyond under / 2 an angle is taken from pi / 4, of a difference that is exact: no quotient is above 1/2. */
V_INLINE vreal v_angle_of(vreal over, vreal under, vreal eighths, vreal towards)
{
    vint steep = over + over > under;
    vreal num = v_blend(steep, over - under, over);
    vreal den = v_blend(steep, over + under, under);
    vreal q = num / den * towards;
    vreal square = q * q;
    return v_from_eighths(eighths + v_blend(steep, towards, v_splat(0)), q, q * square * V_POLYNOMIAL(square, dlc_arctan_poly));
}

/* Max error 1.40 | 1.40 ULP. */
V_INLINE vreal v_arctan(vreal x)
{
    vreal a = v_abs(x);
    vint beyond = a > 1;
    vreal angle = v_angle_of(v_blend(beyond, v_splat(1), a), v_at_least(a, 1), v_blend(beyond, v_splat(2), v_splat(0)),
                             v_blend(beyond, v_splat(-1), v_splat(1)));
    return v_copysign(angle, x);
}

/* The angle of the point (x, y). Zeros, infinities and numbers whose sum would overflow are replaced by such of the same angle. Max
 * error 1.52 | 1.53 ULP, in samples of 18 million. */
V_INLINE vreal v_arctan2(vreal y, vreal x)
{
    const real large = (real)0.25 * DLC_MAX, one = 1;
    vreal ay = v_abs(y), ax = v_abs(x);
    vint beyond = ay > ax;
    vreal over = v_smaller(ay, ax), under = v_larger(ay, ax);
    vreal scale = v_blend(under > large, v_splat((real)0.25), v_splat(1));
    vint alike = (over == DLC_INFINITY) | (under == 0);
    over = v_blend(over == DLC_INFINITY, v_splat(one), over) * scale;
    under = v_blend(alike, v_splat(one), under) * scale;
    vint behind = (vint)x < 0;
    vreal eighths = v_blend(beyond, v_splat(2), v_blend(behind, v_splat(4), v_splat(0)));
    vreal towards = v_blend(beyond ^ behind, v_splat(-1), v_splat(1));
    vreal angle = v_copysign(v_angle_of(over, under, eighths, towards), y);
    return v_blend((x != x) | (y != y), x + y, angle);
}

/* For |x| > 1/2 by the root of (1 - |x|) / 2, which is exact: arcsin(|x|) = pi / 2 - 2 arcsin(root). */
typedef struct {
    vint outer;
    vreal high, low; /* arcsin of |x|, or twice that of the root */
} varc;

V_INLINE varc v_arc(vreal x)
{
    vreal a = v_abs(x);
    vint outer = a > (real)0.5;
    vreal square = v_blend(outer, (1 - a) * (real)0.5, a * a);
    vreal s = v_blend(outer, v_sqrt(square), a);
    vreal twice = v_blend(outer, s + s, s);
    return (varc){outer, twice, twice * square * V_POLYNOMIAL(square, dlc_arcsin_poly)};
}

/* Max error 1.20 | 1.12 ULP. */
V_INLINE vreal v_arcsin(vreal x)
{
    varc arc = v_arc(x);
    vreal towards = v_blend(arc.outer, v_splat(-1), v_splat(1));
    vreal eighths = v_blend(arc.outer, v_splat(2), v_splat(0));
    return v_copysign(v_from_eighths(eighths, towards * arc.high, towards * arc.low), x);
}

/* Max error 1.19 | 1.10 ULP. */
V_INLINE vreal v_arccos(vreal x)
{
    varc arc = v_arc(x);
    vint negative = x < 0;
    vreal towards = v_blend(arc.outer ^ negative, v_splat(1), v_splat(-1));
    vreal eighths = v_blend(arc.outer, v_blend(negative, v_splat(4), v_splat(0)), v_splat(2));
    return v_from_eighths(eighths, towards * arc.high, towards * arc.low);
}

#endif
