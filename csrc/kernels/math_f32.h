/* Constants of kernels/math.h for float32. Coefficients, lowest degree first, are minimax fits by
 * tools/fit_polynomials.py, which prints these tables; their relative errors are those of the function named. */
#ifndef DLC_KERNELS_MATH_F32_H
#define DLC_KERNELS_MATH_F32_H

#define DLC_MANTISSA_BITS 23
#define DLC_EXPONENT_BIAS 127
#define DLC_MIN_NORMAL 0x1p-126f
#define DLC_ROOT_HALF 0x1.6a09e6p-1f

#define DLC_EXP_LOW -104.5f  /* exp(x) is 0 below */
#define DLC_EXP_HIGH 89.0f   /* exp(x) is infinite above */
#define DLC_EXPM1_LOW -20.0f /* expm1(x) is -1 below */
#define DLC_SILU_LOW -111.0f /* silu(x) is -0 below */
#define DLC_ERF_HIGH 4.5f    /* erf(x) is 1 above */
#define DLC_GELU_HIGH 14.5f  /* gelu(-x) is -0 above */
#define DLC_NEAR 68.0f       /* e^-x lies above 2^-99 below */
#define DLC_GELU_NEAR 11.5f  /* likewise e^(-x^2 / 2) */
#define DLC_TINY 0x1p-30f    /* expm1(x), log1p(x) and tanh(x) are x below */

#define DLC_LOG2_E 0x1.715476p0f
#define DLC_LN2_HIGH 0x1.62ep-1f /* 12 bits */
#define DLC_LN2_LOW 0x1.0bfbe8p-15f

/* (exp(r) - 1 - r - r^2 / 2) / r^3 for |r| <= ln(2) / 2; error 2^-26.0 of expm1(r) */
static const real dlc_exp_poly[] = {
    0x1.5554b6p-3f, 0x1.5555bap-5f, 0x1.1223eap-7f, 0x1.6c5566p-10f,
};

/* (log(1 + f) - f + f^2 / 2) / f^3 for sqrt(1/2) <= 1 + f <= sqrt(2); error 2^-28.3 of log(1 + f) */
static const real dlc_log_poly[] = {
    0x1.555548p-2f, -0x1.000006p-2f, 0x1.99a4b4p-3f, -0x1.555c4ap-3f, 0x1.23377ep-3f,
    -0x1.fc22b4p-4f, 0x1.e6efeep-4f, -0x1.de37cep-4f, 0x1.145362p-4f,
};

/* erf(x) / x - 1 by x^2 for |x| <= 1; error 2^-27.7 of erf(x) */
static const real dlc_erf_poly[] = {
    0x1.06eba8p-3f, -0x1.81273ep-2f, 0x1.ce2cf8p-4f, -0x1.b7f90cp-6f, 0x1.5405b2p-8f,
    -0x1.a3f708p-11f, 0x1.496a5ep-14f,
};

/* (sin(r) / r - 1) / r^2 by r^2 for |r| <= pi / 4; error 2^-26.8 of sin(r) */
static const real dlc_sin_poly[] = {-0x1.555546p-3f, 0x1.110732p-7f, -0x1.994074p-13f};

/* (cos(r) - 1 + r^2 / 2) / r^4 by r^2 for |r| <= pi / 4; error 2^-32.9 of cos(r) */
static const real dlc_cos_poly[] = {0x1.55554ap-5f, -0x1.6c0c2ap-10f, 0x1.99e8aap-16f};

/* pi / 2 as a sum; multiples of all but the last by integers below 2^12 are exact */
static const real dlc_quarter_turn[] = {0x1.92p0f, 0x1.fb4p-12f, 0x1.444p-24f, 0x1.68c234p-39f};
#define DLC_QUARTERS 0x1.45f306p-1f /* 2 / pi */
#define DLC_FAR 6000.0f             /* sin(x) and cos(x) are C's beyond */

/* S(a) = sqrt(2 / pi) exp(-a^2 / 2) / erfc(a / sqrt(2)) - a for 0 <= a <= 14.6 as a quotient; error 2^-28.2 of a +
 * S(a) */
static const real dlc_normal_tail_numerator[] = {
    0x1.749cb2p0f, 0x1.d62bc6p-1f, 0x1.36d1a2p-2f, 0x1.bf0414p-5f, 0x1.2b5d3ap-8f,
};
static const real dlc_normal_tail_denominator[] = {
    0x1.d3p0f, 0x1.fb5256p0f, 0x1.08a2cap0f, 0x1.3fac4p-2f, 0x1.bf32ccp-5f,
    0x1.2b55dp-8f,
};

/* log(sqrt(2 / pi)) */
#define DLC_LOG_ROOT_2_BY_PI -0x1.ce6bb2p-3f

#endif
