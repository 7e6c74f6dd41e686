/* What kernel sources need to know of the instruction set: the vector width, and the few operations that vector
 * extensions do not reach. A kernel file is compiled once for each ISA and real dtype, with DLC_ISA (a C
 * identifier), DLC_VECTOR_BYTES and DLC_REAL_BITS (32 or 64) defined by CMakeLists.txt. */
#ifndef DLC_CPU_SIMD_H
#define DLC_CPU_SIMD_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#else
#include <arm_neon.h>
#endif

#define DLC_PASTE3_(a, b, c) a##_##b##_##c
#define DLC_PASTE3(a, b, c) DLC_PASTE3_(a, b, c)

#if DLC_REAL_BITS == 32
typedef float real;
typedef int32_t real_int; /* an integer as wide as real: masks and bit patterns */
typedef uint32_t real_uint;
#define DLC_NAME(name) DLC_PASTE3(name, f32, DLC_ISA)
#define DLC_OF_REAL(function) function##f /* the function of C for reals: sqrtf, sqrt */
#else
typedef double real;
typedef int64_t real_int;
typedef uint64_t real_uint;
#define DLC_NAME(name) DLC_PASTE3(name, f64, DLC_ISA)
#define DLC_OF_REAL(function) function
#endif

enum { DLC_LANES = DLC_VECTOR_BYTES / (int)sizeof(real) };

typedef real vreal __attribute__((vector_size(DLC_VECTOR_BYTES)));
typedef real_int vint __attribute__((vector_size(DLC_VECTOR_BYTES)));
typedef real_uint vuint __attribute__((vector_size(DLC_VECTOR_BYTES)));

static inline vreal v_load(const real *p)
{
    vreal v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void v_store(real *p, vreal v) { memcpy(p, &v, sizeof v); }

static inline vreal v_splat(real x) { return x - (vreal){0}; }

static inline vint v_load_int(const real_int *p)
{
    vint v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline vint v_splat_int(real_int x) { return x - (vint){0}; }

/* mask ? a : b, lane by lane; mask lanes are 0 or -1, as comparisons give them. C has no ?: for vectors. From the
 * loop GCC and Clang make a blend, or on AVX-512 a masked operation, where bit operations would take three; but of
 * two lanes they make branches. */
static inline vreal v_select(vint mask, vreal a, vreal b)
{
#if DLC_VECTOR_BYTES == 16
    return (vreal)((mask & (vint)a) | (~mask & (vint)b));
#else
    vreal r;
    for (int lane = 0; lane < DLC_LANES; lane++)
        r[lane] = mask[lane] ? a[lane] : b[lane];
    return r;
#endif
}

/* Whether a lane of the mask is set. Of the loop GCC makes an extract and an or for each of 16 lanes. */
static inline bool v_any(vint mask)
{
#if defined(__AVX512F__) && DLC_REAL_BITS == 32
    return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask) != 0;
#elif defined(__AVX512F__)
    return _mm512_test_epi64_mask((__m512i)mask, (__m512i)mask) != 0;
#else
    real_int any = 0;
    for (int lane = 0; lane < DLC_LANES; lane++)
        any |= mask[lane];
    return any != 0;
#endif
}

/* The larger and the smaller of x and a bound; NaN stays. GCC has no other way to the instruction where NaN and
 * the signs of zeros count. */
#if defined(__x86_64__)
#if DLC_VECTOR_BYTES == 64
#define DLC_INTRINSIC_PREFIX _mm512
#define DLC_INTEGERS __m512i
#elif DLC_VECTOR_BYTES == 32
#define DLC_INTRINSIC_PREFIX _mm256
#define DLC_INTEGERS __m256i
#else
#define DLC_INTRINSIC_PREFIX _mm
#define DLC_INTEGERS __m128i
#endif
#if DLC_REAL_BITS == 32
#define DLC_INTRINSIC_SUFFIX ps
#else
#define DLC_INTRINSIC_SUFFIX pd
#endif
#define DLC_INTRINSIC(operation) DLC_PASTE3(DLC_INTRINSIC_PREFIX, operation, DLC_INTRINSIC_SUFFIX)
static inline vreal v_at_least(vreal x, real low) { return DLC_INTRINSIC(max)(v_splat(low), x); }
static inline vreal v_at_most(vreal x, real high) { return DLC_INTRINSIC(min)(v_splat(high), x); }
/* The larger and the smaller of x and y; y where either is NaN. */
static inline vreal v_larger(vreal x, vreal y) { return DLC_INTRINSIC(max)(x, y); }
static inline vreal v_smaller(vreal x, vreal y) { return DLC_INTRINSIC(min)(x, y); }
#else
static inline vreal v_larger(vreal x, vreal y) { return v_select(x > y, x, y); }
static inline vreal v_smaller(vreal x, vreal y) { return v_select(x < y, x, y); }
static inline vreal v_at_least(vreal x, real low) { return v_select(x < low, v_splat(low), x); }
static inline vreal v_at_most(vreal x, real high) { return v_select(x > high, v_splat(high), x); }
#endif

#if defined(__AVX512F__)
/* y 2^n for an integer n, rounded once */
#define DLC_HAVE_SCALEF
static inline vreal v_scalef(vreal y, vreal n) { return DLC_INTRINSIC(scalef)(y, n); }
/* e of x = 2^e m with 1 <= |m| < 2; -inf for 0, inf for infinities */
static inline vreal v_exponent(vreal x) { return DLC_INTRINSIC(getexp)(x); }
/* m of x = 2^e m with 3/4 <= m < 3/2; 1 for inf, 1 or -1 for 0, NaN for other x < 0 */
static inline vreal v_mantissa(vreal x) { return DLC_INTRINSIC(getmant)(x, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_nan); }

#if DLC_REAL_BITS == 32
/* A table of 32 numbers in two registers. Of loads GCC would make operands of the lookups, of which Zen 5 does half as many;
 * volatile, as it would load all rows of a table before a loop, for more registers than there are. (Tied to a vector of the turn
 * instead, log takes 0.94 of the time, gelu and sigmoid 1.02.) */
#define DLC_HAVE_LOOKUP
typedef struct {
    vreal low, high;
} vtable;

static inline vtable v_table(const real numbers[32])
{
    vtable table = {v_load(numbers), v_load(numbers + 16)};
    __asm__ volatile("" : "+v"(table.low), "+v"(table.high));
    return table;
}

/* numbers[index % 32] for each lane */
static inline vreal v_lookup(vtable table, vuint index)
{
    return _mm512_permutex2var_ps(table.low, (__m512i)index, table.high);
}

static inline vuint v_larger_unsigned(vuint x, vuint y) { return (vuint)_mm512_max_epu32((__m512i)x, (__m512i)y); }
static inline bool v_any_above(vuint x, vuint y) { return _mm512_cmpgt_epu32_mask((__m512i)x, (__m512i)y) != 0; }
#endif
#endif

/* a b + c, in one rounding where the ISA can. Of a sum of two products a compiler may fuse either with the addition, and the
 * other one in another copy of the loop: what has to have the same bits everywhere says which. */
static inline vreal v_multiply_add(vreal a, vreal b, vreal c)
{
#if defined(__FMA__)
    return DLC_INTRINSIC(fmadd)(a, b, c);
#elif defined(__aarch64__)
    vreal r;
    for (int lane = 0; lane < DLC_LANES; lane++)
        r[lane] = DLC_OF_REAL(__builtin_fma)(a[lane], b[lane], c[lane]);
    return r;
#else
    return a * b + c;
#endif
}

/* sum += a b, as the compiler contracts it, in a form that keeps the sum in its register. Of the expression GCC 12 may let the
 * result overwrite a or b instead, and then copies and spills sums: of four steps of a tile of 14 x 2 five, which took 1.08 of the
 * time. */
static inline void v_add_product(vreal *sum, vreal a, vreal b)
{
#if defined(__FMA__) && DLC_REAL_BITS == 32
    __asm__("vfmadd231ps %2, %1, %0" : "+v"(*sum) : "v"(a), "v"(b));
#elif defined(__FMA__)
    __asm__("vfmadd231pd %2, %1, %0" : "+v"(*sum) : "v"(a), "v"(b));
#else
    *sum += a * b;
#endif
}

/* Vectors of words of 32 and of 64 bits, whatever a real is */
typedef uint32_t vword __attribute__((vector_size(DLC_VECTOR_BYTES)));
typedef uint64_t vlong __attribute__((vector_size(DLC_VECTOR_BYTES)));

/* The products of the lower halves of the lanes. Of x y GCC 12 makes three multiplications, or scalar ones where the ISA has none
 * of 64 bits. */
static inline vlong v_multiply_low_halves(vlong x, vlong y)
{
#if defined(__x86_64__)
    return (vlong)DLC_PASTE3(DLC_INTRINSIC_PREFIX, mul, epu32)((DLC_INTEGERS)x, (DLC_INTEGERS)y);
#else
    return (vlong)vmull_u32(vmovn_u64((uint64x2_t)x), vmovn_u64((uint64x2_t)y));
#endif
}

/* Doubles, whatever a real is */
typedef double vdouble __attribute__((vector_size(DLC_VECTOR_BYTES)));

static inline vdouble v_clamp_doubles(vdouble x, double low, double high)
{
    const vdouble least = low - (vdouble){0}, most = high - (vdouble){0};
#if defined(__x86_64__)
    return DLC_PASTE3(DLC_INTRINSIC_PREFIX, min, pd)(DLC_PASTE3(DLC_INTRINSIC_PREFIX, max, pd)(x, least), most);
#else
    return (vdouble)vminq_f64(vmaxq_f64((float64x2_t)x, (float64x2_t)least), (float64x2_t)most);
#endif
}

#if DLC_REAL_BITS == 32
/* The lower or the upper half of the lanes as doubles, and both halves rounded. Of __builtin_convertvector and of copies of halves
 * GCC 12 makes twice the instructions, and loads that wait for two stores. */
static inline vdouble v_lower_doubles(vreal x)
{
#if DLC_VECTOR_BYTES == 64
    return _mm512_cvtps_pd(_mm512_castps512_ps256(x));
#elif DLC_VECTOR_BYTES == 32
    return _mm256_cvtps_pd(_mm256_castps256_ps128(x));
#elif defined(__x86_64__)
    return _mm_cvtps_pd(x);
#else
    return (vdouble)vcvt_f64_f32(vget_low_f32((float32x4_t)x));
#endif
}

static inline vdouble v_upper_doubles(vreal x)
{
#if DLC_VECTOR_BYTES == 64
    return _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1));
#elif DLC_VECTOR_BYTES == 32
    return _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1));
#elif defined(__x86_64__)
    return _mm_cvtps_pd(_mm_movehl_ps(x, x));
#else
    return (vdouble)vcvt_high_f64_f32((float32x4_t)x);
#endif
}

static inline vreal v_of_doubles(vdouble lower, vdouble upper)
{
#if DLC_VECTOR_BYTES == 64
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(lower)), _mm512_cvtpd_ps(upper), 1);
#elif DLC_VECTOR_BYTES == 32
    return _mm256_set_m128(_mm256_cvtpd_ps(upper), _mm256_cvtpd_ps(lower));
#elif defined(__x86_64__)
    return _mm_movelh_ps(_mm_cvtpd_ps(lower), _mm_cvtpd_ps(upper));
#else
    return (vreal)vcvt_high_f32_f64(vcvt_f32_f64((float64x2_t)lower), (float64x2_t)upper);
#endif
}
#endif

/* A function of C on every lane, from which GCC and Clang make one instruction. */
#define DLC_DEFINE_BY_LANE(name, function)              \
    static inline vreal name(vreal x)                   \
    {                                                   \
        vreal r;                                        \
        for (int lane = 0; lane < DLC_LANES; lane++)    \
            r[lane] = function(x[lane]);                \
        return r;                                       \
    }

DLC_DEFINE_BY_LANE(v_sqrt, DLC_OF_REAL(__builtin_sqrt))
DLC_DEFINE_BY_LANE(v_rint, DLC_OF_REAL(__builtin_rint))
#if defined(__x86_64__)
/* GCC makes 8 scalar instructions of 8 lanes here: its floor of a vector may raise no exception. */
#if DLC_VECTOR_BYTES == 64
#define DLC_ROUND(x, mode) DLC_INTRINSIC(roundscale)(x, mode | _MM_FROUND_NO_EXC)
#else
#define DLC_ROUND(x, mode) DLC_INTRINSIC(round)(x, mode | _MM_FROUND_NO_EXC)
#endif
static inline vreal v_floor(vreal x) { return DLC_ROUND(x, _MM_FROUND_TO_NEG_INF); }
static inline vreal v_ceil(vreal x) { return DLC_ROUND(x, _MM_FROUND_TO_POS_INF); }
static inline vreal v_trunc(vreal x) { return DLC_ROUND(x, _MM_FROUND_TO_ZERO); }
#else
DLC_DEFINE_BY_LANE(v_floor, DLC_OF_REAL(__builtin_floor))
DLC_DEFINE_BY_LANE(v_ceil, DLC_OF_REAL(__builtin_ceil))
DLC_DEFINE_BY_LANE(v_trunc, DLC_OF_REAL(__builtin_trunc))
#endif

#if DLC_REAL_BITS == 32
/* Pairs of bfloat16, one in each lane, `first` in the lower half. v_round_neighbours makes them of lanes that follow each other:
 * all of first, then all of second.
 *
 * Both round to the nearest, ties to even; NaN stays NaN, and numbers below the least normal one become 0 with their
 * sign. v_dot_pairs is sum + a1 b1 + a0 b0, the upper halves first. A product of two bfloat16 is exact in float32 unless it
 * leaves its range, and there alone it matters whether it is fused with the addition. vdpbf16ps takes sums below the least
 * normal number for 0. */
#if defined(__AVX512BF16__)
#define DLC_HAVE_PAIRS
static inline vint v_round_neighbours(vreal first, vreal second) { return (vint)_mm512_cvtne2ps_pbh(second, first); }

static inline vint v_round_pairs(vreal first, vreal second)
{
    typedef int16_t vhalf __attribute__((vector_size(DLC_VECTOR_BYTES)));
    const vhalf x = (vhalf)v_round_neighbours(first, second);
    return (vint)__builtin_shufflevector(x, x, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24, 9, 25, 10, 26,
                                         11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}

static inline vreal v_dot_pairs(vreal sum, vint a, vint b) { return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b); }
#else
/* In the upper halves of the lanes; the lower ones hold anything. */
static inline vuint v_round_bfloat16(vreal x)
{
    const vuint bits = (vuint)x, magnitude = bits & 0x7fffffff;
    const vuint nearest = bits + 0x7fff + (bits >> 16 & 1), quiet = bits | 0x00400000;
    const vuint is_nan = (vuint)(magnitude > 0x7f800000), is_normal = (vuint)(magnitude >= 0x00800000);
    return ((is_nan & quiet) | (~is_nan & nearest)) & (is_normal | 0x80000000);
}

static inline vint v_round_pairs(vreal first, vreal second)
{
    return (vint)(v_round_bfloat16(first) >> 16 | (v_round_bfloat16(second) & 0xffff0000));
}

static inline vint v_round_neighbours(vreal first, vreal second)
{
    const vuint rounded[2] = {v_round_bfloat16(first), v_round_bfloat16(second)};
    uint32_t x[2 * DLC_LANES];
    vint pairs;
    memcpy(x, rounded, sizeof x);
    for (int i = 0; i < DLC_LANES; i++)
        pairs[i] = (int32_t)(x[2 * i] >> 16 | (x[2 * i + 1] & 0xffff0000));
    return pairs;
}

static inline vreal v_dot_pairs(vreal sum, vint a, vint b)
{
    const real_int upper = -0x10000;
    sum += (vreal)(a & upper) * (vreal)(b & upper);
    return sum + (vreal)((vuint)a << 16) * (vreal)((vuint)b << 16);
}
#endif
#endif

#endif
