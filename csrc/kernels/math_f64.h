/* Constants of kernels/math.h for float64. Coefficients, lowest degree first, are minimax fits by
 * tools/fit_polynomials.py, which prints these tables; their relative errors are those of the function named. */
#ifndef DLC_KERNELS_MATH_F64_H
#define DLC_KERNELS_MATH_F64_H

#define DLC_MANTISSA_BITS 52
#define DLC_EXPONENT_BIAS 1023
#define DLC_MIN_NORMAL 0x1p-1022
#define DLC_MAX 0x1.fffffffffffffp1023
#define DLC_ROOT_HALF 0x1.6a09e667f3bcdp-1

#define DLC_EXP_LOW -746.0        /* exp(x) is 0 below */
#define DLC_EXP_HIGH 710.0        /* exp(x) is infinite above */
#define DLC_EXPM1_LOW -42.0       /* expm1(x) is -1 below */
#define DLC_EXP2_LOW -1076.0      /* 2^x is 0 at and below */
#define DLC_EXP2_HIGH 1024.0      /* 2^x is infinite at and above */
#define DLC_SINH_HIGH 710.6       /* sinh(x) is infinite above */
#define DLC_SILU_LOW -753.0       /* silu(x) is -0 below */
#define DLC_ERF_HIGH 6.5          /* erf(x) is 1 above */
#define DLC_GELU_HIGH 39.0        /* gelu(-x) is -0 above */
#define DLC_NEAR 68.0             /* e^-x lies above 2^-99 below */
#define DLC_GELU_NEAR 11.5        /* likewise e^(-x^2 / 2) */
#define DLC_TINY 0x1p-60          /* expm1(x) and tanh(x) are x below */
#define DLC_POWER_MOST 0x1p1000   /* exponents beyond are left to C's pow */
#define DLC_SQUARES_BEYOND 0x1p56 /* x^2 + 1 is x^2, and log(1 + x) is log(x), beyond */
#define DLC_SQUARES_LOW 0x1p-450  /* x^2 might be subnormal below */
#define DLC_SQUARES_HIGH 0x1p500  /* x^2 might overflow beyond */
#define DLC_SQUARES_SCALE 0x1p600 /* brings numbers beyond these to where their squares are normal */

#define DLC_POWER_FIRST 0x1.bb67ae8584caap-1  /* sqrt(3) / 2 */
#define DLC_POWER_MIDDLE 0x1.3988e1409212ep0  /* sqrt(3/2) */
#define DLC_CBRT_HALF 0x1.965fea53d6e3dp-1    /* 2^(-1/3) */
#define DLC_CBRT_QUARTER 0x1.428a2f98d728bp-1 /* 4^(-1/3) */

#define DLC_LOG2_E 0x1.71547652b82fep0
#define DLC_LN2_HIGH 0x1.62e42ffp-1 /* 32 bits */
#define DLC_LN2_LOW -0x1.718432a1b0e26p-35

/* Factors of logarithms to other bases */
#define DLC_LOG2_E_HIGH 0x1.7154768p0 /* 26 bits */
#define DLC_LOG2_E_LOW -0x1.6a3e80f444178p-27
#define DLC_LOG10_E_HIGH 0x1.bcb7b18p-2 /* 26 bits */
#define DLC_LOG10_E_LOW -0x1.6c8d78e6acaa4p-29
#define DLC_LOG10_2_HIGH 0x1.3441350ap-2 /* 32 bits */
#define DLC_LOG10_2_LOW -0x1.0c0219dc1da99p-39
#define DLC_LN2_UPPER_HIGH 0x1.62e43p-1 /* 26 bits */
#define DLC_LN2_UPPER_LOW -0x1.05c610ca86c39p-29
#define DLC_TWO_THIRDS_LOG2_E_HIGH 0x1.ec709ep-1 /* 26 bits */
#define DLC_TWO_THIRDS_LOG2_E_LOW -0x1.e2fe0145b01f5p-28
#define DLC_LOG2_3_HALVES_HIGH 0x1.2b80348p-1 /* 26 bits */
#define DLC_LOG2_3_HALVES_LOW -0x1.810a5e1817fd4p-30

/* (exp(r) - 1 - r - r^2 / 2) / r^3 for |r| <= ln(2) / 2; error 2^-55.1 of expm1(r) */
static const real dlc_exp_poly[] = {
    0x1.555555555553ep-3, 0x1.5555555553aep-5, 0x1.1111111118e67p-7, 0x1.6c16c17a10db3p-10,
    0x1.a01a017142a51p-13, 0x1.a019b3590adbdp-16, 0x1.71de9829ea817p-19, 0x1.2897b3668cbb2p-22,
    0x1.ae486363e1d43p-26,
};

/* (2 atanh(s) - 2 s) / s^3 by s^2 for |s| <= (sqrt(2) - 1) / (sqrt(2) + 1); error 2^-58.1 of 2 atanh(s) */
static const real dlc_log_poly[] = {
    0x1.5555555555593p-1, 0x1.999999997fb3cp-2, 0x1.2492494216cf5p-2, 0x1.c71c51e8c649dp-3,
    0x1.746645fc4287bp-3, 0x1.39a0fa5a64d1ep-3, 0x1.2f0d54d0bf7d5p-3,
};

/* erf(x) / x - 1 by x^2 for |x| <= 1; error 2^-56.3 of erf(x) */
static const real dlc_erf_poly[] = {
    0x1.06eba8214db69p-3, -0x1.812746b0379e6p-2, 0x1.ce2f21a042b2p-4, -0x1.b82ce31284999p-6,
    0x1.565bcd0db027dp-8, -0x1.c02db3d8ec166p-11, 0x1.f9a321a100f46p-14, -0x1.f4d1df373922cp-17,
    0x1.b9def1844c7bfp-20, -0x1.5f1d35ef45a02p-23, 0x1.f7a4098f21f52p-27, -0x1.386aa6d594d86p-30,
    0x1.0579666b4c905p-34,
};

/* (sin(r) / r - 1) / r^2 by r^2 for |r| <= pi / 4; error 2^-56.8 of sin(r) */
static const real dlc_sin_poly[] = {
    -0x1.5555555555548p-3, 0x1.111111110f78fp-7,   -0x1.a01a019bf5911p-13,
    0x1.71de356056d84p-19, -0x1.ae5e5487ffefcp-26, 0x1.5d8e04fcef32bp-33,
};

/* (cos(r) - 1 + r^2 / 2) / r^4 by r^2 for |r| <= pi / 4; error 2^-59.2 of cos(r) */
static const real dlc_cos_poly[] = {
    0x1.555555555554bp-5,   -0x1.6c16c16c14f49p-10, 0x1.a01a019c7d0b3p-16,
    -0x1.27e4f7e55ec0ap-22, 0x1.1ee9d3f0ea716p-29,  -0x1.8fa29ac7e718bp-37,
};

/* pi / 2 as a sum; multiples of all but the last by integers below 2^20 are exact */
static const real dlc_quarter_turn[] = {0x1.921fb544p0, 0x1.0b4611a6p-34, 0x1.3198a2e037073p-69};
#define DLC_QUARTERS 0x1.45f306dc9c883p-1 /* 2 / pi */
#define DLC_FAR 1e6                       /* sin(x), cos(x) and tan(x) are C's beyond */

/* pi / 4; four times the first part is exact */
#define DLC_EIGHTH_TURN_HIGH 0x1.921fb54442d2p-1 /* 49 bits */
#define DLC_EIGHTH_TURN_LOW -0x1.ee59d9cceba4p-51

/* (arctan(q) / q - 1) / q^2 by q^2 for |q| <= 1/2; error 2^-56.6 of arctan(q) */
static const real dlc_arctan_poly[] = {
    -0x1.5555555555515p-2, 0x1.9999999991006p-3, -0x1.24924921571b7p-3, 0x1.c71c708e9bd7fp-4,
    -0x1.745cf49197868p-4, 0x1.3b113a3afcbe2p-4, -0x1.10f2fb237e17fp-4, 0x1.dfe791549575fp-5,
    -0x1.a38ff4de2c118p-5, 0x1.56de18fbd47e1p-5, -0x1.c133d13458d32p-6, 0x1.4b19a719cee95p-7,
};

/* (arcsin(s) / s - 1) / s^2 by s^2 for |s| <= 1/2; error 2^-58.2 of arcsin(s) */
static const real dlc_arcsin_poly[] = {
    0x1.5555555555578p-3, 0x1.333333332dfcfp-4, 0x1.6db6db7223259p-5, 0x1.f1c71a8e85818p-6,
    0x1.6e8bdf9a3578ep-6, 0x1.1c49e2f5e11f2p-6, 0x1.ca20d747fd07p-7, 0x1.757ab9d4ca23fp-7,
    0x1.617aa4073ac58p-7, 0x1.e23521243d91p-9, 0x1.64c7391e935c1p-6, -0x1.59ada58c2e996p-6,
    0x1.0bd0c283ac306p-5,
};

/* 3 (atanh(s) / s - 1 - s^2 / 3) / s^4 by s^2 for 1 <= (1 + s) / (1 - s) <= sqrt(3/2); error 2^-70.9 of atanh(s) */
static const real dlc_power_poly[] = {
    0x1.3333333333303p-1, 0x1.b6db6db6fa987p-2, 0x1.555555192ac9fp-2, 0x1.17460a6c19e2cp-2,
    0x1.d864c1347b8d7p-3, 0x1.a7df99941db0bp-3,
};

/* m^(-1/3) for 1 <= m <= 2; error 2^-14.7 */
static const real dlc_inverse_cbrt_poly[] = {
    0x1.ab856c64bd3b4p0, -0x1.2c41879af8091p0, 0x1.6415a7288c5e2p-1, -0x1.c5174e736da3cp-3,
    0x1.d46e383ea8d5fp-6,
};

/* S(a) = sqrt(2 / pi) exp(-a^2 / 2) / erfc(a / sqrt(2)) - a for 0 <= a <= 39 as a quotient; error 2^-56.4 of a +
 * S(a) */
static const real dlc_normal_tail_numerator[] = {
    0x1.8160d4864b13dp0, 0x1.dd6415f97ba72p0, 0x1.2e65015de06eep0, 0x1.f1627d22da637p-2,
    0x1.2067586be04edp-3, 0x1.e5761c0c76f72p-6, 0x1.27bb09ec096a9p-8, 0x1.f78f8e283ca1bp-12,
    0x1.1158f2153b105p-15, 0x1.23c4fd0de1015p-20,
};
static const real dlc_normal_tail_denominator[] = {
    0x1.e3p0, 0x1.99258bacb6947p1, 0x1.56d76c8825ed7p1, 0x1.6fe8d60393665p0,
    0x1.15951c1cd651fp-1, 0x1.327c7ec86a05p-3, 0x1.f51740ca50795p-6, 0x1.2c006d6421407p-8,
    0x1.f9d7183b1acebp-12, 0x1.1158f212ed227p-15, 0x1.23c4fd0e441d2p-20,
};

/* log(sqrt(2 / pi)) */
#define DLC_LOG_ROOT_2_BY_PI -0x1.ce6bb25aa1316p-3

#endif
