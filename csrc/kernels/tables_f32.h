/* Tables for kernels/math.h where v_lookup chooses from 32 numbers in registers: functions of float32 in 32 pieces, each
 * c0 + d (c1 + d (c2 + ...)) with d = x - centre. tools/fit_tables.py prints these numbers, and says how pieces are numbered
 * and centres are chosen. Rows are the centres, then the coefficients, lowest degree first. */
#ifndef DLC_KERNELS_TABLES_F32_H
#define DLC_KERNELS_TABLES_F32_H

#include "cpu/simd.h"

/* tanh(x) in pieces of a quarter of an octave, the first all below 5/64; relative error 2^-25.5 */
#define DLC_TANH_FIRST 0x1p-4f /* where the first piece would begin if it were like the others */
#define DLC_TANH_PIECE_BITS 21 /* within a piece */
#define DLC_TANH_ONE 9.25f     /* tanh(x) is 1 above */
static const real dlc_tanh_pieces[7][32] = {
    {
        0x1.12662ep1f, 0x1.59c8e4p1f, 0x1.978872p1f, 0x1.dae63cp1f,
        0x1.1d644ap2f, 0x1.552ca4p2f, 0x1.97794cp2f, 0x1.d1cb7ep2f,
        0x1.0b1e22p3f, 0x0p0f, 0x0p0f, 0x0p0f,
        0x0p0f, 0x1.52a9d8p-4f, 0x1.9742dap-4f, 0x1.d591c4p-4f,
        0x1.1bff5ep-3f, 0x1.580e4p-3f, 0x1.9acc8p-3f, 0x1.d7e888p-3f,
        0x1.17e19ep-2f, 0x1.5b06p-2f, 0x1.9bdefep-2f, 0x1.d7360ep-2f,
        0x1.17a6p-1f, 0x1.5ab046p-1f, 0x1.9638ap-1f, 0x1.d383aep-1f,
        0x1.161dd2p0f, 0x1.569074p0f, 0x1.925372p0f, 0x1.d4d1f2p0f,
    },
    {
        0x1.f21f1cp-1f, 0x1.fb68b6p-1f, 0x1.fe3ee8p-1f, 0x1.ff6314p-1f,
        0x1.ffdce8p-1f, 0x1.fff9dcp-1f, 0x1.ffff3ap-1f, 0x1.ffffep-1f,
        0x1.fffffcp-1f, 0x0p0f, 0x0p0f, 0x0p0f,
        0x0p0f, 0x1.51e4d2p-4f, 0x1.95eca2p-4f, 0x1.d385e6p-4f,
        0x1.1a30e8p-3f, 0x1.54dae6p-3f, 0x1.95606cp-3f, 0x1.cfbadep-3f,
        0x1.111d2ep-2f, 0x1.4e5262p-2f, 0x1.870262p-2f, 0x1.b88bb4p-2f,
        0x1.fd9a1p-2f, 0x1.2de654p-1f, 0x1.5216fp-1f, 0x1.71fbb6p-1f,
        0x1.975356p-1f, 0x1.be113ap-1f, 0x1.d5a56ap-1f, 0x1.e6609ep-1f,
    },
    {
        0x1.b6175ep-5f, 0x1.2480d8p-6f, 0x1.c05242p-8f, 0x1.39a756p-9f,
        0x1.18a802p-11f, 0x1.88e92ep-14f, 0x1.8be95p-17f, 0x1.ffeb56p-20f,
        0x1.e24b54p-23f, 0x0p0f, 0x0p0f, 0x0p0f,
        0x1p0f, 0x1.fc8408p-1f, 0x1.faf8b2p-1f, 0x1.f9545cp-1f,
        0x1.f64782p-1f, 0x1.f1d14ep-1f, 0x1.ebf0aep-1f, 0x1.e5bfd4p-1f,
        0x1.db9418p-1f, 0x1.c96c9ep-1f, 0x1.b558f8p-1f, 0x1.a13bfp-1f,
        0x1.81324p-1f, 0x1.4dfc48p-1f, 0x1.20bfb6p-1f, 0x1.e94866p-2f,
        0x1.77e5fp-2f, 0x1.ed7ffap-3f, 0x1.44d1p-3f, 0x1.8fb41p-4f,
    },
    {
        -0x1.aa39d6p-5f, -0x1.21e02cp-6f, -0x1.bec964p-8f, -0x1.394486p-9f,
        -0x1.185922p-11f, -0x1.891808p-14f, -0x1.8bf69cp-17f, -0x1.0034cp-19f,
        -0x1.e3615ap-23f, 0x0p0f, 0x0p0f, 0x0p0f,
        0x0p0f, -0x1.4f982ap-4f, -0x1.91f008p-4f, -0x1.cd6e9ap-4f,
        -0x1.14d55cp-3f, -0x1.4b69d4p-3f, -0x1.857e86p-3f, -0x1.b7f442p-3f,
        -0x1.fb5f22p-3f, -0x1.2aaf74p-2f, -0x1.4dff78p-2f, -0x1.67015ap-2f,
        -0x1.7f645cp-2f, -0x1.89de1cp-2f, -0x1.7d56fcp-2f, -0x1.619134p-2f,
        -0x1.2b0c56p-2f, -0x1.adf2fcp-3f, -0x1.29f22cp-3f, -0x1.7bb35p-4f,
    },
    {
        0x1.0cbc32p-5f, 0x1.7bdc9ep-7f, 0x1.281f8ep-8f, 0x1.a11536p-10f,
        0x1.77db46p-12f, 0x1.0821cep-14f, 0x1.0a2d52p-17f, 0x1.57b666p-20f,
        0x1.45cbd6p-23f, 0x0p0f, 0x0p0f, 0x0p0f,
        -0x1.55551cp-2f, -0x1.4c16e2p-2f, -0x1.4805dp-2f, -0x1.43b81ep-2f,
        -0x1.3bc7cep-2f, -0x1.304c9p-2f, -0x1.21697cp-2f, -0x1.1205e6p-2f,
        -0x1.f2c6d8p-3f, -0x1.9edc88p-3f, -0x1.480e34p-3f, -0x1.eecf5cp-4f,
        -0x1.07f3b6p-4f, 0x1.32d9acp-7f, 0x1.da7942p-5f, 0x1.719634p-4f,
        0x1.c241c8p-4f, 0x1.a40dd4p-4f, 0x1.4a03cap-4f, 0x1.c6e9f2p-5f,
    },
    {
        -0x1.dbd8bp-7f, -0x1.6fd89p-8f, -0x1.24d5aap-9f, -0x1.a219f4p-11f,
        -0x1.857954p-13f, -0x1.06c3cp-15f, -0x1.0c7c6ep-18f, -0x1.4e8a92p-21f,
        -0x1.38e10cp-24f, 0x0p0f, 0x0p0f, 0x0p0f,
        0x0p0f, 0x1.bae73ep-5f, 0x1.0801dep-4f, 0x1.2d9c06p-4f,
        0x1.668b72p-4f, 0x1.a77e54p-4f, 0x1.e8be3cp-4f, 0x1.0eba6ap-3f,
        0x1.2e149ep-3f, 0x1.4e6c54p-3f, 0x1.5bc832p-3f, 0x1.59bb14p-3f,
        0x1.411ef2p-3f, 0x1.f655fp-4f, 0x1.5fcaa8p-4f, 0x1.98640ep-5f,
        0x1.44b73p-7f, -0x1.3cc62ep-6f, -0x1.a14c94p-6f, -0x1.66087ep-6f,
    },
    {
        0x1.06ab6ap-8f, 0x1.f3326p-10f, 0x1.93a318p-11f, 0x1.2feabp-12f,
        0x1.146b48p-14f, 0x1.39d02p-17f, 0x1.4fc0aep-20f, 0x1.76e7aap-23f,
        0x1.4534dap-26f, 0x0p0f, 0x0p0f, 0x0p0f,
        0x1.10215p-3f, 0x1.004c94p-3f, 0x1.f36e98p-4f, 0x1.e48a9ep-4f,
        0x1.ca2622p-4f, 0x1.a257fep-4f, 0x1.74439ep-4f, 0x1.428566p-4f,
        0x1.e3b48cp-5f, 0x1.03dba2p-5f, 0x1.729ba2p-8f, -0x1.18c63ep-6f,
        -0x1.645f12p-5f, -0x1.f924e8p-5f, -0x1.00d6cp-4f, -0x1.b3d93ap-5f,
        -0x1.075496p-5f, -0x1.38ca98p-7f, 0x1.591958p-10f, 0x1.2d514cp-8f,
    },
};

/* sigmoid(-x), 0 <= x <= DLC_SIGMOID_NEAR, in pieces of one length; relative error 2^-25.6 */
#define DLC_SIGMOID_NEAR 17.0f
#define DLC_SIGMOID_SCALE 1.85f /* times x, rounded: the number of the piece */
static const real dlc_sigmoid_pieces[8][32] = {
    {
        0x1.12234ap-2f, 0x1.9c5c74p-1f, 0x1.57d7ecp0f, 0x1.e23c38p0f,
        0x1.368a7ep1f, 0x1.7bc1aap1f, 0x1.c0d9c8p1f, 0x1.02f9eep2f,
        0x1.25ad3ap2f, 0x1.482384p2f, 0x1.6aea18p2f, 0x1.8d76fp2f,
        0x1.afe93cp2f, 0x1.d2b2aep2f, 0x1.f548fp2f, 0x1.0be90ep3f,
        0x1.1d3ap3f, 0x1.2e8428p3f, 0x1.3fc068p3f, 0x1.511c64p3f,
        0x1.6264dp3f, 0x1.73a856p3f, 0x1.84f032p3f, 0x1.963a2cp3f,
        0x1.a7886cp3f, 0x1.b8d548p3f, 0x1.ca266cp3f, 0x1.db6e5ap3f,
        0x1.ecc268p3f, 0x1.fe11fcp3f, 0x1.07b372p4f, 0x1.104ce2p4f,
    },
    {
        0x1.bbdf38p-2f, 0x1.3c493cp-2f, 0x1.a7ecbp-3f, 0x1.0e418p-3f,
        0x1.4c9c6cp-4f, 0x1.90f7bep-5f, 0x1.dd29bap-6f, 0x1.198694p-6f,
        0x1.49c516p-7f, 0x1.828dcep-8f, 0x1.c21fdap-9f, 0x1.06b9d4p-9f,
        0x1.330182p-10f, 0x1.64b922p-11f, 0x1.9fb3e4p-12f, 0x1.e4c362p-13f,
        0x1.1a33eep-13f, 0x1.48d354p-14f, 0x1.7fcae8p-15f, 0x1.be35cep-16f,
        0x1.0401eep-16f, 0x1.2f3192p-17f, 0x1.615d5ep-18f, 0x1.9bbb16p-19f,
        0x1.df7c9ap-20f, 0x1.173e6p-20f, 0x1.4514fep-21f, 0x1.7aded8p-22f,
        0x1.b8e7ep-23f, 0x1.00b082p-23f, 0x1.2ab026p-24f, 0x1.5d0152p-25f,
    },
    {
        -0x1.f6ef48p-3f, -0x1.b53008p-3f, -0x1.502cacp-3f, -0x1.d52f6ep-4f,
        -0x1.319a0ap-4f, -0x1.7d5786p-5f, -0x1.cf442ap-6f, -0x1.14b032p-6f,
        -0x1.46737ep-7f, -0x1.80461ep-8f, -0x1.c0942p-9f, -0x1.063302p-9f,
        -0x1.32a576p-10f, -0x1.647afep-11f, -0x1.9f89b2p-12f, -0x1.e4a6bp-13f,
        -0x1.1a2a34p-13f, -0x1.48ccbap-14f, -0x1.7fc668p-15f, -0x1.be32c2p-16f,
        -0x1.0400e6p-16f, -0x1.2f30dep-17f, -0x1.615ce2p-18f, -0x1.9bbac2p-19f,
        -0x1.df7c6p-20f, -0x1.173e4cp-20f, -0x1.4514fp-21f, -0x1.7adecep-22f,
        -0x1.b8e7d8p-23f, -0x1.00b08p-23f, -0x1.2ab024p-24f, -0x1.5d015p-25f,
    },
    {
        0x1.0bafbep-6f, 0x1.4e3b5ep-5f, 0x1.8a02b8p-5f, 0x1.595c4p-5f,
        0x1.fff04p-6f, 0x1.58025ap-6f, 0x1.b4479ap-7f, 0x1.0b2dcp-7f,
        0x1.3fe14ep-8f, 0x1.7bbdaep-9f, 0x1.bd7f98p-10f, 0x1.052618p-10f,
        0x1.31edcep-11f, 0x1.63ff1cp-12f, 0x1.9f35b8p-13f, 0x1.e46dc2p-14f,
        0x1.1a1706p-14f, 0x1.48bfd4p-15f, 0x1.7fbdcp-16f, 0x1.be2d18p-17f,
        0x1.03ff12p-17f, 0x1.2f2fbcp-18f, 0x1.615c3ep-19f, 0x1.9bba78p-20f,
        0x1.df7c5cp-21f, 0x1.173e66p-21f, 0x1.45152p-22f, 0x1.7adf12p-23f,
        0x1.b8e834p-24f, 0x1.00b0b8p-24f, 0x1.2ab068p-25f, 0x1.5d019cp-26f,
    },
    {
        0x1.3d7692p-6f, 0x1.4756bp-7f, -0x1.a750cp-12f, -0x1.86f304p-8f,
        -0x1.c22a1ap-8f, -0x1.6e8beap-8f, -0x1.0081eap-8f, -0x1.4b9468p-9f,
        -0x1.99448p-10f, -0x1.ee5442p-11f, -0x1.24e484p-11f, -0x1.595f36p-12f,
        -0x1.95f378p-13f, -0x1.d9503p-14f, -0x1.14554p-14f, -0x1.429cf8p-15f,
        -0x1.77de6ap-16f, -0x1.b62356p-17f, -0x1.ff7f2ap-18f, -0x1.296152p-18f,
        -0x1.5a985ep-19f, -0x1.942eaap-20f, -0x1.d713d2p-21f, -0x1.127294p-21f,
        -0x1.3f9d44p-22f, -0x1.7446aep-23f, -0x1.b162f8p-24f, -0x1.f918c6p-25f,
        -0x1.25e652p-25f, -0x1.56357ap-26f, -0x1.8e32f4p-27f, -0x1.d14872p-28f,
    },
    {
        -0x1.5ceefp-9f, -0x1.5c6746p-8f, -0x1.f6436p-9f, -0x1.523c2ep-10f,
        0x1.19dc56p-12f, 0x1.905234p-11f, 0x1.7db6f6p-11f, 0x1.1b1b4p-11f,
        0x1.7725e6p-12f, 0x1.d6efd2p-13f, 0x1.1d382p-13f, 0x1.5485c8p-14f,
        0x1.931806p-15f, 0x1.d7fd88p-16f, 0x1.143936p-16f, 0x1.42ed1p-17f,
        0x1.788c34p-18f, 0x1.b72234p-19f, 0x1.0061f8p-19f, 0x1.2a2fap-20f,
        0x1.5b8fb8p-21f, 0x1.9550fp-22f, 0x1.d867c8p-23f, 0x1.13394cp-23f,
        0x1.408654p-24f, 0x1.75570ap-25f, 0x1.b2a2d8p-26f, 0x1.fa8b88p-27f,
        0x1.26c0b6p-27f, 0x1.573524p-28f, 0x1.8f6062p-29f, 0x1.d29bcp-30f,
    },
    {
        -0x1.e2fc24p-10f, -0x1.f7bb5p-14f, 0x1.208596p-10f, 0x1.d30e0ep-11f,
        0x1.6708e6p-12f, 0x1.df5afap-16f, -0x1.2dea9cp-14f, -0x1.4baf8ap-14f,
        -0x1.f8271p-15f, -0x1.5090e4p-15f, -0x1.a4afep-16f, -0x1.fee768p-17f,
        -0x1.31746ap-17f, -0x1.674cd8p-18f, -0x1.a5dbd8p-19f, -0x1.ee3514p-20f,
        -0x1.2060dp-20f, -0x1.50899ap-21f, -0x1.895aa8p-22f, -0x1.c94abcp-23f,
        -0x1.0a93ecp-23f, -0x1.370138p-24f, -0x1.6a8f5cp-25f, -0x1.a68076p-26f,
        -0x1.ec022cp-27f, -0x1.1e88aap-27f, -0x1.4d82fcp-28f, -0x1.84c1aep-29f,
        -0x1.c4480cp-30f, -0x1.07478cp-30f, -0x1.32420ap-31f, -0x1.662e18p-32f,
    },
    {
        0x1.97ad7p-13f, 0x1.1f82f2p-11f, 0x1.572c88p-12f, -0x1.bb03bp-15f,
        -0x1.37f758p-13f, -0x1.816e52p-14f, -0x1.127decp-15f, -0x1.0e0806p-18f,
        0x1.4af916p-18f, 0x1.88e66p-18f, 0x1.304378p-18f, 0x1.98d5a8p-19f,
        0x1.014b66p-19f, 0x1.38d262p-20f, 0x1.7579eap-21f, 0x1.b94dc2p-22f,
        0x1.031ee6p-22f, 0x1.2f4966p-23f, 0x1.625bc4p-24f, 0x1.9d551ep-25f,
        0x1.e1f4ecp-26f, 0x1.18e6ap-26f, 0x1.4756cep-27f, 0x1.7d63fp-28f,
        0x1.bc4cf2p-29f, 0x1.02c9d2p-29f, 0x1.2d7076p-30f, 0x1.5f2b36p-31f,
        0x1.9903dap-32f, 0x1.dc6c6cp-33f, 0x1.1571e6p-33f, 0x1.435324p-34f,
    },
};

/* Phi(-x), the normal distribution's, 0 <= x <= DLC_NORMAL_NEAR, in pieces that become shorter; relative error 2^-25.0 */
#define DLC_NORMAL_NEAR 9.0f
#define DLC_NORMAL_SCALE 0.29f /* times x (x + DLC_NORMAL_OFFSET), rounded: the number of the piece */
#define DLC_NORMAL_OFFSET 3.0f
static const real dlc_normal_pieces[9][32] = {
    {
        0x1.f486f2p-2f, 0x1.3747c8p0f, 0x1.cad34ep0f, 0x1.23cfcap1f,
        0x1.5b0336p1f, 0x1.8d02ap1f, 0x1.bb56c8p1f, 0x1.e65546p1f,
        0x1.07611p2f, 0x1.1a7f66p2f, 0x1.2cb594p2f, 0x1.3e264p2f,
        0x1.4edb6ap2f, 0x1.5eed1cp2f, 0x1.6e7e9p2f, 0x1.7d7794p2f,
        0x1.8c09bp2f, 0x1.9a3a6ap2f, 0x1.a801e8p2f, 0x1.b5647cp2f,
        0x1.c2749p2f, 0x1.cf3728p2f, 0x1.dbb526p2f, 0x1.e7f9d4p2f,
        0x1.f3ed1cp2f, 0x1.ffa8fep2f, 0x1.0594d8p3f, 0x1.0b38fp3f,
        0x1.10c66ap3f, 0x1.163f0ap3f, 0x1.1b9c94p3f, 0x1.20e518p3f,
    },
    {
        0x1.3ffe2ep-2f, 0x1.cac4c8p-4f, 0x1.2b5d52p-5f, 0x1.729e94p-7f,
        0x1.b79292p-9f, 0x1.f87f1cp-11f, 0x1.17759ap-12f, 0x1.30172p-14f,
        0x1.445e5ap-16f, 0x1.547684p-18f, 0x1.5f9d4cp-20f, 0x1.657204p-22f,
        0x1.67d36cp-24f, 0x1.66c1d8p-26f, 0x1.605244p-28f, 0x1.59c6a4p-30f,
        0x1.4ec9p-32f, 0x1.406392p-34f, 0x1.3133c6p-36f, 0x1.2206cep-38f,
        0x1.11bf6ap-40f, 0x1.00d3f2p-42f, 0x1.de5bd6p-45f, 0x1.b8e61cp-47f,
        0x1.97b3aep-49f, 0x1.7669eap-51f, 0x1.56c1b2p-53f, 0x1.38f232p-55f,
        0x1.1bcap-57f, 0x1.fef386p-60f, 0x1.cc579ep-62f, 0x1.9cf442p-64f,
    },
    {
        -0x1.6a8474p-2f, -0x1.861beap-3f, -0x1.47e426p-4f, -0x1.e61b1ep-6f,
        -0x1.4b6dbap-7f, -0x1.aa035ap-9f, -0x1.03b136p-10f, -0x1.32bcb2p-12f,
        -0x1.5f9622p-14f, -0x1.8961e2p-16f, -0x1.ae5418p-18f, -0x1.ccf95ap-20f,
        -0x1.e6c8fp-22f, -0x1.fb33c6p-24f, -0x1.0379bap-25f, -0x1.08834p-27f,
        -0x1.0968ap-29f, -0x1.06ae0ap-31f, -0x1.0245a2p-33f, -0x1.f9ba0ap-36f,
        -0x1.eb0cc8p-38f, -0x1.d9465ap-40f, -0x1.c43a62p-42f, -0x1.ab35c2p-44f,
        -0x1.946ap-46f, -0x1.7bd972p-48f, -0x1.635332p-50f, -0x1.4b395cp-52f,
        -0x1.327088p-54f, -0x1.19421p-56f, -0x1.022a6cp-58f, -0x1.d79a5ap-61f,
    },
    {
        0x1.626526p-4f, 0x1.da5b4p-4f, 0x1.25d5f6p-4f, 0x1.150d86p-5f,
        0x1.c141fep-7f, 0x1.4a55f6p-8f, 0x1.c1bbeap-10f, 0x1.235c3ep-11f,
        0x1.69b868p-13f, 0x1.b2192ep-15f, 0x1.f97afap-17f, 0x1.1e70a8p-18f,
        0x1.3e5ccp-20f, 0x1.5ba20ep-22f, 0x1.7376b2p-24f, 0x1.8a250cp-26f,
        0x1.9a95b4p-28f, 0x1.a4ec1p-30f, 0x1.abc246p-32f, 0x1.b00562p-34f,
        0x1.b002b6p-36f, 0x1.ac2aaap-38f, 0x1.a42894p-40f, 0x1.972626p-42f,
        0x1.8adcb4p-44f, 0x1.7b94fep-46f, 0x1.6b0e94p-48f, 0x1.59bad2p-50f,
        0x1.468178p-52f, 0x1.31af56p-54f, 0x1.1dff4ap-56f, 0x1.0a1676p-58f,
    },
    {
        0x1.6fe812p-5f, -0x1.f11514p-7f, -0x1.e3b29cp-6f, -0x1.5415f4p-6f,
        -0x1.5ebcdap-7f, -0x1.3202cp-8f, -0x1.dbed7ap-10f, -0x1.5770aep-11f,
        -0x1.d2e968p-13f, -0x1.2efc9ap-14f, -0x1.79f56ep-16f, -0x1.c783eap-18f,
        -0x1.0b8a4ep-19f, -0x1.3335bp-21f, -0x1.57d534p-23f, -0x1.7ca956p-25f,
        -0x1.9c909p-27f, -0x1.b6ee5cp-29f, -0x1.cdcd16p-31f, -0x1.e1d09ap-33f,
        -0x1.f0d384p-35f, -0x1.faef18p-37f, -0x1.ff66b8p-39f, -0x1.fcd8a4p-41f,
        -0x1.fa0064p-43f, -0x1.f23a64p-45f, -0x1.e798ecp-47f, -0x1.daa4fp-49f,
        -0x1.c9d8d2p-51f, -0x1.b58268p-53f, -0x1.a1715p-55f, -0x1.8bd028p-57f,
    },
    {
        -0x1.45960cp-6f, -0x1.dd4b6cp-7f, 0x1.40b6dap-10f, 0x1.951afep-8f,
        0x1.45db0ap-8f, 0x1.6ccdbep-9f, 0x1.51643cp-10f, 0x1.15b638p-11f,
        0x1.a3e254p-13f, 0x1.29d51p-14f, 0x1.911e98p-16f, 0x1.0289ccp-17f,
        0x1.426c32p-19f, 0x1.86bb28p-21f, 0x1.cb4e5ep-23f, 0x1.09f2a8p-24f,
        0x1.2c765p-26f, 0x1.4c376ep-28f, 0x1.6a516cp-30f, 0x1.870108p-32f,
        0x1.a034bp-34f, 0x1.b59ceep-36f, 0x1.c62cb4p-38f, 0x1.d027a2p-40f,
        0x1.d998c2p-42f, 0x1.dde0b4p-44f, 0x1.dec85ap-46f, 0x1.dcb156p-48f,
        0x1.d5d24p-50f, 0x1.ca3e4cp-52f, 0x1.be0706p-54f, 0x1.af1924p-56f,
    },
    {
        -0x1.2f2944p-8f, 0x1.951c78p-8f, 0x1.f1866p-9f, 0x1.f670a4p-13f,
        -0x1.19f0e6p-10f, -0x1.08f03p-10f, -0x1.41a8e2p-11f, -0x1.3e6e04p-12f,
        -0x1.15035ap-13f, -0x1.b825eap-15f, -0x1.4604a2p-16f, -0x1.c865dep-18f,
        -0x1.31e108p-19f, -0x1.8b335p-21f, -0x1.ecb62p-23f, -0x1.2c722p-24f,
        -0x1.64547cp-26f, -0x1.9c8092p-28f, -0x1.d53f5cp-30f, -0x1.071004p-31f,
        -0x1.22412ep-33f, -0x1.3bac6cp-35f, -0x1.526e86p-37f, -0x1.6548a2p-39f,
        -0x1.770444p-41f, -0x1.85055ep-43f, -0x1.900428p-45f, -0x1.980f1cp-47f,
        -0x1.9c0a12p-49f, -0x1.9be1c2p-51f, -0x1.99d99ap-53f, -0x1.94c67ep-55f,
    },
    {
        0x1.c6383ep-9f, 0x1.4810dap-10f, -0x1.c60414p-10f, -0x1.135c1ep-10f,
        -0x1.111404p-13f, 0x1.a65b9ap-13f, 0x1.a7785cp-13f, 0x1.0309c6p-13f,
        0x1.fff1dep-15f, 0x1.bcb4fcp-16f, 0x1.609172p-17f, 0x1.045892p-18f,
        0x1.6d3888p-20f, 0x1.eb38d2p-22f, 0x1.3be388p-23f, 0x1.8ef4b6p-25f,
        0x1.e64332p-27f, 0x1.1f386ap-28f, 0x1.4d8dfap-30f, 0x1.7f2794p-32f,
        0x1.b04c9ap-34f, 0x1.e01b96p-36f, 0x1.05cf82p-37f, 0x1.169e2ep-39f,
        0x1.2a3916p-41f, 0x1.3a17b8p-43f, 0x1.4856ep-45f, 0x1.55324ep-47f,
        0x1.5d097ep-49f, 0x1.5efa94p-51f, 0x1.61e9e8p-53f, 0x1.616d92p-55f,
    },
    {
        0x1.ea54e8p-11f, -0x1.20c4dap-11f, -0x1.1a6b6p-11f, 0x1.379192p-13f,
        0x1.11d64p-12f, 0x1.ece10cp-14f, 0x1.e8f394p-18f, -0x1.dbdeb2p-16f,
        -0x1.bf7ae4p-16f, -0x1.140444p-16f, -0x1.1740bap-17f, -0x1.f2bad6p-19f,
        -0x1.97872cp-20f, -0x1.37271cp-21f, -0x1.c1cef8p-23f, -0x1.371b36p-24f,
        -0x1.9e32dp-26f, -0x1.0ad2e6p-27f, -0x1.4e4538p-29f, -0x1.98a2cap-31f,
        -0x1.e8964ep-33f, -0x1.1e587ap-34f, -0x1.499cb8p-36f, -0x1.75179ap-38f,
        -0x1.a06886p-40f, -0x1.ca57b2p-42f, -0x1.f23f06p-44f, -0x1.0bb6dep-45f,
        -0x1.1c82a6p-47f, -0x1.2b369ep-49f, -0x1.37dceap-51f, -0x1.4227ep-53f,
    },
};

/* log(x), 3/4 <= x < 3/2, in pieces by the upper bits of x, two of which have their centre at 1; relative
 * error 2^-25.3 */
#define DLC_LOG_PIECE_BITS 18 /* within a piece */
static const real dlc_log_pieces[6][32] = {
    {
        0x1p0f, 0x1.0b56b2p0f, 0x1.149686p0f, 0x1.1b96a2p0f,
        0x1.248eeep0f, 0x1.2bc17ep0f, 0x1.330eb6p0f, 0x1.3be21ep0f,
        0x1.4365d4p0f, 0x1.4cd372p0f, 0x1.53bd8ap0f, 0x1.5c2fb2p0f,
        0x1.63ac82p0f, 0x1.6b7ab4p0f, 0x1.73454p0f, 0x1.7ba3d6p0f,
        0x1.844e1cp-1f, 0x1.8cd918p-1f, 0x1.93b3eep-1f, 0x1.9c0678p-1f,
        0x1.a3099p-1f, 0x1.ac40d6p-1f, 0x1.b3ff6ep-1f, 0x1.bce9eap-1f,
        0x1.c39b34p-1f, 0x1.ccb67p-1f, 0x1.d3ac8ap-1f, 0x1.dc272p-1f,
        0x1.e4cdcp-1f, 0x1.eb8aeep-1f, 0x1.f4a6d4p-1f, 0x1p0f,
    },
    {
        0x0p0f, 0x1.6308p-5f, 0x1.3cd4f4p-4f, 0x1.a3361p-4f,
        0x1.11616ap-3f, 0x1.4327d2p-3f, 0x1.7471bp-3f, 0x1.ae7aep-3f,
        0x1.dea10ap-3f, 0x1.0cbdaap-2f, 0x1.21cbe2p-2f, 0x1.3af114p-2f,
        0x1.50ba94p-2f, 0x1.66f54p-2f, 0x1.7cacf2p-2f, 0x1.9380c8p-2f,
        -0x1.1b2b86p-2f, -0x1.04e2cp-2f, -0x1.e6b2b4p-3f, -0x1.bce84cp-3f,
        -0x1.9a58bcp-3f, -0x1.6dcb02p-3f, -0x1.491686p-3f, -0x1.1fa13ap-3f,
        -0x1.010d72p-3f, -0x1.b0554ep-4f, -0x1.72e7e8p-4f, -0x1.294facp-4f,
        -0x1.bf1faep-5f, -0x1.4e091ap-5f, -0x1.6f3b42p-6f, 0x0p0f,
    },
    {
        0x1p0f, 0x1.ea48d6p-1f, 0x1.d9e394p-1f, 0x1.ce30e2p-1f,
        0x1.c00524p-1f, 0x1.b54336p-1f, 0x1.aadd5ep-1f, 0x1.9ef026p-1f,
        0x1.954beap-1f, 0x1.89d0cp-1f, 0x1.81ccecp-1f, 0x1.78713p-1f,
        0x1.708474p-1f, 0x1.689a8ep-1f, 0x1.61095p-1f, 0x1.5940ep-1f,
        0x1.518c8ap0f, 0x1.4a485ap0f, 0x1.44aca8p0f, 0x1.3e1dcep0f,
        0x1.38cb0ap0f, 0x1.320fd8p0f, 0x1.2ca01ap0f, 0x1.2699d6p0f,
        0x1.223c32p0f, 0x1.1c7f96p0f, 0x1.18437cp0f, 0x1.1345ep0f,
        0x1.0e5c68p0f, 0x1.0aa784p0f, 0x1.05cd84p0f, 0x1p0f,
    },
    {
        -0x1.ffffb8p-2f, -0x1.d57d82p-2f, -0x1.b69d56p-2f, -0x1.a13a46p-2f,
        -0x1.8808f6p-2f, -0x1.756f48p-2f, -0x1.63e2cap-2f, -0x1.5046dp-2f,
        -0x1.40d4acp-2f, -0x1.2ee946p-2f, -0x1.22b502p-2f, -0x1.14c656p-2f,
        -0x1.093e8ap-2f, -0x1.fbf316p-3f, -0x1.e6dab8p-3f, -0x1.d19feep-3f,
        -0x1.bd135p-1f, -0x1.aa1e94p-1f, -0x1.9bc582p-1f, -0x1.8b4e0cp-1f,
        -0x1.7e2f8ep-1f, -0x1.6de9dep-1f, -0x1.6107ap-1f, -0x1.5305b2p-1f,
        -0x1.490c6ep-1f, -0x1.3c2b52p-1f, -0x1.32d3b2p-1f, -0x1.27ff34p-1f,
        -0x1.1d870cp-1f, -0x1.15c08cp-1f, -0x1.0bbcbp-1f, -0x1.000004p-1f,
    },
    {
        0x1.551f0ap-2f, 0x1.2bc30cp-2f, 0x1.0eaeaep-2f, 0x1.f6415cp-3f,
        0x1.c974p-3f, 0x1.a94996p-3f, 0x1.8ba62p-3f, 0x1.6b69c8p-3f,
        0x1.52a88cp-3f, 0x1.36ae5p-3f, 0x1.24198cp-3f, 0x1.0f5a9ap-3f,
        0x1.fd2572p-4f, 0x1.dd0a7cp-4f, 0x1.bfa136p-4f, 0x1.a2ace8p-4f,
        0x1.874448p-1f, 0x1.6e8834p-1f, 0x1.5c2e2ap-1f, 0x1.47813ep-1f,
        0x1.3754ap-1f, 0x1.23aa42p-1f, 0x1.14659cp-1f, 0x1.041b3ap-1f,
        0x1.f16e66p-2f, 0x1.d4829cp-2f, 0x1.bfe6a6p-2f, 0x1.a865a2p-2f,
        0x1.921396p-2f, 0x1.81c458p-2f, 0x1.6d17p-2f, 0x1.5546b8p-2f,
    },
    {
        -0x1.e847fap-3f, -0x1.ab32c8p-3f, -0x1.7a61b2p-3f, -0x1.527ab4p-3f,
        -0x1.2e1106p-3f, -0x1.0fb396p-3f, -0x1.e9fc1ep-4f, -0x1.b9436ap-4f,
        -0x1.8fbe4ep-4f, -0x1.6952e6p-4f, -0x1.4959fap-4f, -0x1.2bc80ap-4f,
        -0x1.120bdap-4f, -0x1.f5ada4p-5f, -0x1.cc16c6p-5f, -0x1.a634d8p-5f,
        -0x1.83e856p-1f, -0x1.651c4cp-1f, -0x1.4a6968p-1f, -0x1.314a74p-1f,
        -0x1.1b381ap-1f, -0x1.06061ap-1f, -0x1.e6dcbcp-2f, -0x1.c3f68ap-2f,
        -0x1.a5ca76p-2f, -0x1.8871bap-2f, -0x1.6ef2c8p-2f, -0x1.569d5ep-2f,
        -0x1.402ca4p-2f, -0x1.2c794p-2f, -0x1.193262p-2f, -0x1.0642dp-2f,
    },
};

/* 2^(k / 32) */
static const real dlc_powers_of_two[32] = {
    0x1p0f, 0x1.059b0ep0f, 0x1.0b5586p0f, 0x1.11301ep0f,
    0x1.172b84p0f, 0x1.1d4874p0f, 0x1.2387a6p0f, 0x1.29e9ep0f,
    0x1.306fep0f, 0x1.371a74p0f, 0x1.3dea64p0f, 0x1.44e086p0f,
    0x1.4bfdaep0f, 0x1.5342b6p0f, 0x1.5ab07ep0f, 0x1.6247ecp0f,
    0x1.6a09e6p0f, 0x1.71f75ep0f, 0x1.7a1148p0f, 0x1.82589ap0f,
    0x1.8ace54p0f, 0x1.93737cp0f, 0x1.9c4918p0f, 0x1.a5503cp0f,
    0x1.ae89fap0f, 0x1.b7f77p0f, 0x1.c199bep0f, 0x1.cb720ep0f,
    0x1.d5818ep0f, 0x1.dfc974p0f, 0x1.ea4afap0f, 0x1.f50766p0f,
};

/* (exp(r) - 1 - r) / r^2 for |r| <= ln(2) / 64; error 2^-33.2 of exp(r) */
static const real dlc_short_exp_poly[] = {0x1.000088p-1f, 0x1.5555d8p-3f};

#endif
