/* tanh of float32 where v_lookup chooses from 32 numbers in registers.
 *
 * |x| is cut into pieces of a quarter of an octave, the first of which is all that lies below 5/64. In a piece tanh(x) is
 * c0 + d (c1 + d (c2 + ...)) with d = |x| - centre, which is exact. tools/fit_polynomials.py prints the table, and says how
 * centres are chosen. Without a division this takes 15 cycles a vector on Zen 4, and the quotient of kernels/math.h 42. */
#ifndef DLC_KERNELS_TANH_F32_H
#define DLC_KERNELS_TANH_F32_H

#include "cpu/simd.h"

#define DLC_TANH_FIRST 0x1p-4f /* where the first piece would begin if it were like the others */
#define DLC_TANH_PIECE_BITS 21 /* within a piece; the bits above, modulo 32, number it */
#define DLC_TANH_ONE 9.25f     /* tanh(x) is 1 above */
#define DLC_TANH_DEGREE 5

/* Centres, then coefficients, lowest degree first; relative error 2^-26.2. */
static const real dlc_tanh_pieces[DLC_TANH_DEGREE + 2][32] = {
    {
        0x1.1acd5ap1f, 0x1.59c8e4p1f, 0x1.978872p1f, 0x1.dae63cp1f,
        0x1.162e88p2f, 0x1.552ca4p2f, 0x1.97794cp2f, 0x1.d61162p2f,
        0x1.0ad2d8p3f, 0x0p0f, 0x0p0f, 0x0p0f,
        0x0p0f, 0x1.59de68p-4f, 0x1.9742dap-4f, 0x1.d591c4p-4f,
        0x1.15b07ap-3f, 0x1.580e4p-3f, 0x1.9acc8p-3f, 0x1.d7e888p-3f,
        0x1.17e19ep-2f, 0x1.5b06p-2f, 0x1.93fb0ep-2f, 0x1.d7360ep-2f,
        0x1.17a6p-1f, 0x1.5ab046p-1f, 0x1.9638ap-1f, 0x1.d4202p-1f,
        0x1.161dd2p0f, 0x1.569074p0f, 0x1.96742ap0f, 0x1.d4d1f2p0f,
    },
    {
        0x1.f3cf1p-1f, 0x1.fb68b6p-1f, 0x1.fe3ee8p-1f, 0x1.ff6314p-1f,
        0x1.ffd40ap-1f, 0x1.fff9dcp-1f, 0x1.ffff3ap-1f, 0x1.ffffe4p-1f,
        0x1.fffffcp-1f, 0x0p0f, 0x0p0f, 0x0p0f,
        0x0p0f, 0x1.590c9p-4f, 0x1.95eca2p-4f, 0x1.d385e6p-4f,
        0x1.140002p-3f, 0x1.54dae6p-3f, 0x1.95606cp-3f, 0x1.cfbadep-3f,
        0x1.111d2ep-2f, 0x1.4e5262p-2f, 0x1.803fe8p-2f, 0x1.b88bb4p-2f,
        0x1.fd9a1p-2f, 0x1.2de654p-1f, 0x1.5216fp-1f, 0x1.724666p-1f,
        0x1.975356p-1f, 0x1.be113ap-1f, 0x1.d6efb2p-1f, 0x1.e6609ep-1f,
    },
    {
        0x1.8178bcp-5f, 0x1.2480d8p-6f, 0x1.c05242p-8f, 0x1.39a756p-9f,
        0x1.5f8deap-11f, 0x1.88e92ep-14f, 0x1.8be95p-17f, 0x1.bfe7a2p-20f,
        0x1.eb40cap-23f, 0x0p0f, 0x0p0f, 0x0p0f,
        0x1p0f, 0x1.fc5ddap-1f, 0x1.faf8b2p-1f, 0x1.f9545cp-1f,
        0x1.f6b38p-1f, 0x1.f1d14ep-1f, 0x1.ebf0aep-1f, 0x1.e5bfd4p-1f,
        0x1.db9418p-1f, 0x1.c96c9ep-1f, 0x1.b7e806p-1f, 0x1.a13bfp-1f,
        0x1.81324p-1f, 0x1.4dfc48p-1f, 0x1.20bfb6p-1f, 0x1.e8706ep-2f,
        0x1.77e5fp-2f, 0x1.ed7ffap-3f, 0x1.3b56p-3f, 0x1.8fb41p-4f,
    },
    {
        -0x1.7849f2p-5f, -0x1.21e02cp-6f, -0x1.bec964p-8f, -0x1.394486p-9f,
        -0x1.5f8f4p-11f, -0x1.891808p-14f, -0x1.8bf69cp-17f, -0x1.c0121ep-20f,
        -0x1.ec6898p-23f, 0x0p0f, 0x0p0f, 0x0p0f,
        0x0p0f, -0x1.5699b6p-4f, -0x1.91f008p-4f, -0x1.cd6e9ap-4f,
        -0x1.0efcc4p-3f, -0x1.4b69d4p-3f, -0x1.857e86p-3f, -0x1.b7f442p-3f,
        -0x1.fb5f22p-3f, -0x1.2aaf74p-2f, -0x1.4a24eep-2f, -0x1.67015ap-2f,
        -0x1.7f645cp-2f, -0x1.89de1cp-2f, -0x1.7d56fcp-2f, -0x1.613c64p-2f,
        -0x1.2b0c56p-2f, -0x1.adf2fcp-3f, -0x1.220b88p-3f, -0x1.7bb35p-4f,
    },
    {
        0x1.dddfp-6f, 0x1.7bdc9ep-7f, 0x1.281f8ep-8f, 0x1.a11536p-10f,
        0x1.d84362p-12f, 0x1.0821cep-14f, 0x1.0a2d52p-17f, 0x1.2d2b68p-20f,
        0x1.4ba42p-23f, 0x0p0f, 0x0p0f, 0x0p0f,
        -0x1.55551cp-2f, -0x1.4bb224p-2f, -0x1.4805dp-2f, -0x1.43b81ep-2f,
        -0x1.3cdfbep-2f, -0x1.304c9p-2f, -0x1.21697cp-2f, -0x1.1205e6p-2f,
        -0x1.f2c6d8p-3f, -0x1.9edc88p-3f, -0x1.52c47cp-3f, -0x1.eecf5cp-4f,
        -0x1.07f3b6p-4f, 0x1.32d9acp-7f, 0x1.da7942p-5f, 0x1.728f02p-4f,
        0x1.c241c8p-4f, 0x1.a40dd4p-4f, 0x1.434c94p-4f, 0x1.c6e9f2p-5f,
    },
    {
        -0x1.b0537ep-7f, -0x1.6fd89p-8f, -0x1.24d5aap-9f, -0x1.a219f4p-11f,
        -0x1.d82522p-13f, -0x1.06c3cp-15f, -0x1.0c7c6ep-18f, -0x1.2d4dfap-21f,
        -0x1.3d09e6p-24f, 0x0p0f, 0x0p0f, 0x0p0f,
        0x0p0f, 0x1.c3ecbcp-5f, 0x1.0801dep-4f, 0x1.2d9c06p-4f,
        0x1.5f789cp-4f, 0x1.a77e54p-4f, 0x1.e8be3cp-4f, 0x1.0eba6ap-3f,
        0x1.2e149ep-3f, 0x1.4e6c54p-3f, 0x1.5b4412p-3f, 0x1.59bb14p-3f,
        0x1.411ef2p-3f, 0x1.f655fp-4f, 0x1.5fcaa8p-4f, 0x1.95c49ep-5f,
        0x1.44b73p-7f, -0x1.3cc62ep-6f, -0x1.9fcecep-6f, -0x1.66087ep-6f,
    },
    {
        0x1.039a3cp-8f, 0x1.f3326p-10f, 0x1.93a318p-11f, 0x1.2feabp-12f,
        0x1.1f2c5ep-14f, 0x1.39d02p-17f, 0x1.4fc0aep-20f, 0x1.6e4c32p-23f,
        0x1.4644aap-26f, 0x0p0f, 0x0p0f, 0x0p0f,
        0x1.10215p-3f, 0x1.002fd2p-3f, 0x1.f36e98p-4f, 0x1.e48a9ep-4f,
        0x1.cac184p-4f, 0x1.a257fep-4f, 0x1.74439ep-4f, 0x1.428566p-4f,
        0x1.e3b48cp-5f, 0x1.03dba2p-5f, 0x1.941cdp-8f, -0x1.18c63ep-6f,
        -0x1.645f12p-5f, -0x1.f924e8p-5f, -0x1.00d6cp-4f, -0x1.b3af3ap-5f,
        -0x1.075496p-5f, -0x1.38ca98p-7f, 0x1.6b345ap-10f, 0x1.2d514cp-8f,
    },
};

#endif
