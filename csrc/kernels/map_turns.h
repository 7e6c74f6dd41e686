/* Loops over arrays for functions that are long, a few vectors a turn. */
#ifndef DLC_KERNELS_MAP_TURNS_H
#define DLC_KERNELS_MAP_TURNS_H

#include "kernels/lanes.h"
#include "kernels/map_kernels.h"
#include "kernels/math.h"

/* A turn is a few vectors, whose operations the compiler mixes (-fschedule-insns in CMakeLists.txt): of one vector after the
 * other, each a chain of 20 to 60 operations, the window of a core holds too few. Four vectors of AVX2 need more than its 16
 * registers (gelu takes 1.1 times as long as with three), which costs SSE less than they gain. (Zen 5, builds in turns, 32 Ki
 * elements, beside one vector a turn: exp takes 0.73 of the time, softplus 0.72, silu and gelu 0.84 and 0.87, log and sigmoid 0.88,
 * tanh 0.92; float64 0.7 to 0.95, AVX2 0.76 to 1.03, SSE 0.58 to 0.86.) Inputs are loaded before results of the turn before are
 * stored: where out begins a few lines after an input, modulo 4 KiB, a load waits for a store before it (Zen 4, AVX-512: exp, tanh
 * and gelu took 1.2 to 1.4 times as long). */
enum { TURN = DLC_VECTOR_BYTES == 32 ? 3 : 4 };

#define INPUTS_1 vreal xs[count];
#define INPUTS_2 vreal xs[count], ys[count];
#define LOAD_TURN_1(place) V_EACH xs[v] = v_load((const real *)a + (place) + v * DLC_LANES);
#define LOAD_TURN_2(place) LOAD_TURN_1(place) V_EACH ys[v] = v_load((const real *)b + (place) + v * DLC_LANES);
#define LOAD_LANES_1 xs[0] = v_load_lanes((const real *)a + i, n - i, 1);
#define LOAD_LANES_2 LOAD_LANES_1 ys[0] = v_load_lanes((const real *)b + i, n - i, 1);

/* The statements compute results[count] of xs[count] and ys[count]: of a turn, or of a vector or less that is left. */
#define LOOP_BY_TURNS(arity, ...)                                            \
    {                                                                        \
        enum { STEP = TURN * DLC_LANES };                                    \
        int64_t i = 0;                                                       \
        if (n >= STEP) {                                                     \
            enum { count = TURN };                                           \
            INPUTS_##arity                                                   \
            LOAD_TURN_##arity(0)                                             \
            for (; i <= n - STEP; i += STEP) {                               \
                vreal results[count];                                        \
                __VA_ARGS__                                                  \
                const int64_t next = i + STEP <= n - STEP ? i + STEP : i;    \
                LOAD_TURN_##arity(next)                                      \
                V_EACH v_store((real *)out + i + v * DLC_LANES, results[v]); \
            }                                                                \
        }                                                                    \
        for (; i < n; i += DLC_LANES) {                                      \
            enum { count = 1 };                                              \
            INPUTS_##arity                                                   \
            LOAD_LANES_##arity                                               \
            vreal results[count];                                            \
            __VA_ARGS__                                                      \
            v_store_lanes((real *)out + i, results[0], n - i);               \
        }                                                                    \
    }
#define OF_TURN_1 const vreal x = xs[v];
#define OF_TURN_2 const vreal x = xs[v], y = ys[v];
#define LONG_LOOP(arity, expression) \
    LOOP_BY_TURNS(arity, V_EACH { OF_TURN_##arity results[v] = (expression); })

/* out[i] = expression of vectors x = a[i], y = b[i] */
#define DEFINE_LONG_MAP(name, arity, expression) \
    DLC_MAP_HEAD(name)                           \
    {                                            \
        DLC_UNREAD_##arity                       \
        LONG_LOOP(arity, expression)             \
    }

#ifdef DLC_HAVE_LOOKUP
_Static_assert((int)TURN <= (int)V_MOST_VECTORS, "functions by tables take a turn at once");
#define DEFINE_TABLE_MAP(name, ...)   \
    DLC_MAP_HEAD(name)                \
    {                                 \
        DLC_UNREAD_1                  \
        LOOP_BY_TURNS(1, __VA_ARGS__) \
    }
#endif

/* The same one vector a turn, for functions that are rarer, as four and a rest are five times the code. (Zen 5: by turns of four
 * arcsinh takes 0.65 to 0.7 of the time, arccosh, arctanh and cbrt 0.75 to 0.8, others 0.8 to 1, and arctan2 1.1.) */
#define DEFINE_RARER_MAP(name, arity)                                           \
    DLC_MAP_HEAD(name)                                                          \
    {                                                                           \
        DLC_UNREAD_##arity                                                      \
        for (int64_t i = 0; i < n; i += DLC_LANES) {                            \
            enum { v = 0, count = 1 };                                          \
            INPUTS_##arity                                                      \
            LOAD_LANES_##arity                                                  \
            OF_TURN_##arity                                                     \
            v_store_lanes((real *)out + i, v_##name(ARGUMENTS_##arity), n - i); \
        }                                                                       \
    }
#define ARGUMENTS_1 x
#define ARGUMENTS_2 x, y

/* Loops without stores take four vectors a turn: on Zen 3 the jump alone takes two cycles. */
#define FOUR_A_TURN _Pragma("GCC unroll 4")

/* Whether some |x| lies beyond a limit. */
static inline bool has_far(const real *x, int64_t n, real limit)
{
    vint far = {0};
    int64_t i = 0;
    FOUR_A_TURN
    for (; i + DLC_LANES <= n; i += DLC_LANES)
        far |= v_abs(v_load(x + i)) > limit;
    if (i < n)
        far |= v_abs(v_load_part(x + i, n - i, 0)) > limit;
    return v_any(far);
}

#endif
