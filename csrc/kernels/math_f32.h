/* Constants of kernels/math.h for float32. Coefficients, lowest degree first, are minimax fits by
 * tools/fit_polynomials.py, which prints these tables; their relative errors are those of the function named. */
#ifndef DLC_KERNELS_MATH_F32_H
#define DLC_KERNELS_MATH_F32_H

#define DLC_MANTISSA_BITS 23
#define DLC_EXPONENT_BIAS 127
#define DLC_MIN_NORMAL 0x1p-126f
#define DLC_MAX 0x1.fffffep127f
#define DLC_ROOT_HALF 0x1.6a09e6p-1f

#define DLC_EXP_LOW -104.5f        /* exp(x) is 0 below */
#define DLC_EXP_HIGH 89.0f         /* exp(x) is infinite above */
#define DLC_EXPM1_LOW -20.0f       /* expm1(x) is -1 below */
#define DLC_EXP2_LOW -151.0f       /* 2^x is 0 at and below */
#define DLC_EXP2_HIGH 128.0f       /* 2^x is infinite at and above */
#define DLC_SINH_HIGH 89.7f        /* sinh(x) is infinite above */
#define DLC_SILU_LOW -111.0f       /* silu(x) is -0 below */
#define DLC_ERF_HIGH 4.5f          /* erf(x) is 1 above */
#define DLC_GELU_HIGH 14.5f        /* gelu(-x) is -0 above */
#define DLC_NEAR 68.0f             /* e^-x lies above 2^-99 below */
#define DLC_GELU_NEAR 11.5f        /* likewise e^(-x^2 / 2) */
#define DLC_TINY 0x1p-30f          /* expm1(x) and tanh(x) are x below */
#define DLC_POWER_MOST 0x1p100f    /* exponents beyond are left to C's pow */
#define DLC_SQUARES_BEYOND 0x1p27f /* x^2 + 1 is x^2, and log(1 + x) is log(x), beyond */
#define DLC_SQUARES_LOW 0x1p-50f   /* x^2 might be subnormal below */
#define DLC_SQUARES_HIGH 0x1p60f   /* x^2 might overflow beyond */
#define DLC_SQUARES_SCALE 0x1p90f  /* brings numbers beyond these to where their squares are normal */

#define DLC_CBRT_HALF 0x1.965feap-1f   /* 2^(-1/3) */
#define DLC_CBRT_QUARTER 0x1.428a3p-1f /* 4^(-1/3) */

#define DLC_LOG2_E 0x1.715476p0f
#define DLC_LN2_HIGH 0x1.62ep-1f /* 12 bits */
#define DLC_LN2_LOW 0x1.0bfbe8p-15f

/* Factors of logarithms to other bases */
#define DLC_LOG2_E_HIGH 0x1.716p0f /* 12 bits */
#define DLC_LOG2_E_LOW -0x1.7135a8p-13f
#define DLC_LOG10_E_HIGH 0x1.bccp-2f /* 12 bits */
#define DLC_LOG10_E_LOW -0x1.09d5b2p-15f
#define DLC_LOG10_2_HIGH 0x1.344p-2f /* 12 bits */
#define DLC_LOG10_2_LOW 0x1.3509f8p-18f

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
#define DLC_FAR 6000.0f             /* sin(x), cos(x) and tan(x) are C's beyond */

/* pi / 4; four times the first part is exact */
#define DLC_EIGHTH_TURN_HIGH 0x1.921fcp-1f /* 20 bits */
#define DLC_EIGHTH_TURN_LOW -0x1.5777a6p-22f

/* (arctan(q) / q - 1) / q^2 by q^2 for |q| <= 1/2; error 2^-27.9 of arctan(q) */
static const real dlc_arctan_poly[] = {
    -0x1.555552p-2f, 0x1.9996eap-3f, -0x1.244a9p-3f, 0x1.c0205cp-4f, -0x1.46f62ap-4f, 0x1.3d068ep-5f,
};

/* (arcsin(s) / s - 1) / s^2 by s^2 for |s| <= 1/2; error 2^-27.3 of arcsin(s) */
static const real dlc_arcsin_poly[] = {
    0x1.5555cap-3f, 0x1.3301aap-4f, 0x1.74848ep-5f, 0x1.8be544p-6f, 0x1.59aa1ap-5f,
};

/* Powers are computed in double: log2((1 + s) / (1 - s)) / s by s^2 for sqrt(1/2) <= (1 + s) / (1 - s) <= sqrt(2), error 2^-37.8 */
static const double dlc_log2_poly[] = {
    0x1.71547652bef13p1, 0x1.ec709d118780fp-1, 0x1.277780d504792p-1, 0x1.a58d1bef4b1e3p-2,
    0x1.5cf01fc91b3f2p-2,
};

/* 2^f for |f| <= 1/2; error 2^-29.0 */
static const double dlc_exp2_poly[] = {
    0x1.000000026249cp0, 0x1.62e430c7e2e02p-1, 0x1.ebfbdadb97931p-3, 0x1.c6aed4ba4c86p-5,
    0x1.3b2dbc2604005p-7, 0x1.5f4569f6acb53p-10, 0x1.41d30a6d11546p-13,
};

/* m^(-1/3) for 1 <= m <= 2; error 2^-14.7 */
static const real dlc_inverse_cbrt_poly[] = {
    0x1.ab856cp0f, -0x1.2c4188p0f, 0x1.6415a8p-1f, -0x1.c5174ep-3f, 0x1.d46e38p-6f,
};

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
