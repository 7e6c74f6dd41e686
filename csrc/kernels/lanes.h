/* Parts of vectors, and lanes folded into one number in a fixed order. */
#ifndef DLC_KERNELS_LANES_H
#define DLC_KERNELS_LANES_H

#include "cpu/simd.h"

/* For loops of few turns, whose arrays shall be registers. */
#ifdef __clang__
#define DLC_UNROLL _Pragma("clang loop unroll(full)")
#else
#define DLC_UNROLL _Pragma("GCC unroll 32")
#endif

/* For functions that take a constant (an operation, a flag) and must be compiled anew for each. */
#define DLC_INLINE static inline __attribute__((always_inline))

/* mask ? a : b as v_select, for all but short expressions: of lanes that were just loaded or are carried around a loop GCC 12 makes
 * branches of v_select, one for each (a row of 1000 took 3 times as long to softmax). With AVX-512 it is an instruction longer. */
static inline vreal v_blend(vint mask, vreal a, vreal b)
{
#if defined(__x86_64__) && DLC_VECTOR_BYTES == 32
    return DLC_INTRINSIC(blendv)(b, a, (vreal)mask);
#else
    return (vreal)((mask & (vint)a) | (~mask & (vint)b));
#endif
}

/* A mask of the lanes before n. */
static inline vint v_first_lanes(int64_t n)
{
    vint index;
    for (int lane = 0; lane < DLC_LANES; lane++)
        index[lane] = lane;
    return index < (real_int)n;
}

/* v in the lanes before n, 0 in the others */
static inline vreal v_keep_first(vreal v, int64_t n) { return (vreal)((vint)v & v_first_lanes(n)); }

/* The vector extensions cannot say "load these lanes only"; from a loop that says it the compilers make branches for every
 * lane. 0 <= n < DLC_LANES; nothing at or beyond p + n is touched. */
#if DLC_VECTOR_BYTES == 64

static inline vreal v_load_part(const real *p, int64_t n, real fill)
{
    return DLC_INTRINSIC(mask_loadu)(v_splat(fill), (1u << n) - 1, p);
}

static inline void v_store_part(real *p, vreal v, int64_t n) { DLC_INTRINSIC(mask_storeu)(p, (1u << n) - 1, v); }

/* The lanes [begin, end) of v to memory, or added to what is there, lane `at`, which need not be one of v's, to p */
#define DLC_HAVE_STORE_BETWEEN
static inline void v_store_between(real *p, int at, vreal v, int begin, int end, bool accumulate)
{
    const unsigned mask = ((1u << end) - 1) & ~((1u << begin) - 1);
    real *first = (real *)((uintptr_t)p - (uintptr_t)at * sizeof *p); /* no array may begin there */
    if (accumulate)
        v += DLC_INTRINSIC(maskz_loadu)(mask, first);
    DLC_INTRINSIC(mask_storeu)(first, mask, v);
}

#elif DLC_VECTOR_BYTES == 32

static inline vreal v_load_part(const real *p, int64_t n, real fill)
{
    vint first = v_first_lanes(n);
    vreal loaded = DLC_INTRINSIC(maskload)(p, (__m256i)first);
    return (vreal)((vint)loaded | (~first & (vint)v_splat(fill)));
}

static inline void v_store_part(real *p, vreal v, int64_t n)
{
    DLC_INTRINSIC(maskstore)(p, (__m256i)v_first_lanes(n), v);
}

#else /* two or four lanes */

static inline vreal v_load_part(const real *p, int64_t n, real fill)
{
    vreal v = v_splat(fill);
    for (int lane = 0; lane < DLC_LANES - 1; lane++)
        if (lane < n)
            v[lane] = p[lane];
    return v;
}

static inline void v_store_part(real *p, vreal v, int64_t n)
{
    for (int lane = 0; lane < DLC_LANES - 1; lane++)
        if (lane < n)
            p[lane] = v[lane];
}

#endif

/* A whole vector, or the part of it that there is; n >= 1 */
static inline vreal v_load_lanes(const real *p, int64_t n, real fill)
{
    return n >= DLC_LANES ? v_load(p) : v_load_part(p, n, fill);
}

static inline void v_store_lanes(real *p, vreal v, int64_t n)
{
    if (n >= DLC_LANES)
        v_store(p, v);
    else
        v_store_part(p, v, n);
}

/* dst[j] = src[j] for j < n < 2 DLC_LANES, without the call and the branches by size of memcpy */
DLC_INLINE void copy_few(real *dst, const real *src, int64_t n)
{
    DLC_UNROLL
    for (int64_t piece = DLC_LANES; piece > 0; piece /= 2)
        if (n & piece) {
            memcpy(dst, src, (size_t)piece * sizeof *dst);
            dst += piece;
            src += piece;
        }
}

/* The lanes of a vector are folded by halves, lane i with lane i + half, down to one. The steps are spelled out on
 * vectors of 16 bytes, which every target has: from a loop over lanes GCC makes scalar instructions. */
typedef real vquad __attribute__((vector_size(16)));
typedef real_int vquad_int __attribute__((vector_size(16)));

static inline vquad vquad_swap(vquad v)
{
#if DLC_REAL_BITS == 32
    return (vquad){v[2], v[3], v[0], v[1]};
#else
    return (vquad){v[1], v[0]};
#endif
}

static inline vquad vquad_select(vquad_int mask, vquad a, vquad b)
{
    return (vquad)((mask & (vquad_int)a) | (~mask & (vquad_int)b));
}

/* NaN if a or b is: a comparison with NaN is false, so a NaN in b is kept by the first test, one in a by the second. */
static inline vquad vquad_max(vquad a, vquad b) { return vquad_select((a > b) | (a != a), a, b); }
static inline vquad vquad_min(vquad a, vquad b) { return vquad_select((a < b) | (a != a), a, b); }
static inline vquad vquad_add(vquad a, vquad b) { return a + b; }

/* b where either is NaN */
#if defined(__x86_64__) && DLC_REAL_BITS == 32
static inline vquad vquad_larger(vquad a, vquad b) { return _mm_max_ps(a, b); }
static inline vquad vquad_smaller(vquad a, vquad b) { return _mm_min_ps(a, b); }
#elif defined(__x86_64__)
static inline vquad vquad_larger(vquad a, vquad b) { return _mm_max_pd(a, b); }
static inline vquad vquad_smaller(vquad a, vquad b) { return _mm_min_pd(a, b); }
#else
static inline vquad vquad_larger(vquad a, vquad b) { return vquad_select(a > b, a, b); }
static inline vquad vquad_smaller(vquad a, vquad b) { return vquad_select(a < b, a, b); }
#endif

#define DLC_DEFINE_FOLD(name, combine)                              \
    static inline real name(vreal v)                                \
    {                                                               \
        vquad part[DLC_VECTOR_BYTES / 16];                          \
        memcpy(part, &v, sizeof v);                                 \
        for (int half = DLC_VECTOR_BYTES / 32; half > 0; half /= 2) \
            for (int i = 0; i < half; i++)                          \
                part[i] = combine(part[i], part[i + half]);         \
        vquad last = combine(part[0], vquad_swap(part[0]));         \
        if (DLC_REAL_BITS == 32)                                    \
            last = combine(last, ((vquad){last[1], last[0]}));      \
        return last[0];                                             \
    }

DLC_DEFINE_FOLD(v_fold_add, vquad_add)
DLC_DEFINE_FOLD(v_fold_max, vquad_max)
DLC_DEFINE_FOLD(v_fold_min, vquad_min)
/* Any value where a lane is NaN; a third of the instructions */
DLC_DEFINE_FOLD(v_fold_larger, vquad_larger)
DLC_DEFINE_FOLD(v_fold_smaller, vquad_smaller)

#endif
