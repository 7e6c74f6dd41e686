/* One step of every optimiser against the formulas of cpu/steps.h in long double. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "arrays.h"
#include "checks.h"
#include "kernels.h"

/* The numbers of one element, and how large the terms are that make up the parameter. */
typedef struct element {
    long double p, states[DLC_STEP_MAX_STATES], g, average, size;
} element;

typedef struct step_case {
    dlc_step_kind kind;
    int states; /* that there are, as bits */
    double own[DLC_STEP_MAX_OPTIONS];
    double weight_decay;
    bool decoupled, average;
} step_case;

static const step_case cases[] = {
    {DLC_STEP_SGD, 0, {0}, 0, false, false},
    {DLC_STEP_SGD, 0, {0}, 0.1, false, true},
    {DLC_STEP_SGD, 1, {0.9, 0, 0}, 0.1, true, false},
    {DLC_STEP_SGD, 1, {0.9, 1, 0}, 0, false, false},
    {DLC_STEP_SGD, 1, {0.9, 0, 1}, 0, false, true},
    {DLC_STEP_SGD, 1, {0.9, 1, 1}, 0.1, false, false},
    {DLC_STEP_ADAM, 3, {0.9, 0.99, 1e-3, 0}, 0, false, false},
    {DLC_STEP_ADAM, 3, {0.9, 0.99, 1e-3, 0}, 0.1, true, true},
    {DLC_STEP_ADAM, 7, {0.9, 0.99, 1e-3, 1}, 0.1, false, false},
    {DLC_STEP_NADAM, 3, {0.9, 0.99, 1e-3}, 0, false, false},
    {DLC_STEP_RADAM, 3, {0.9, 0.99, 1e-3}, 0, false, false},
    {DLC_STEP_RMSPROP, 1, {0.9, 1e-3, 0, 0}, 0, false, false},
    {DLC_STEP_RMSPROP, 3, {0.9, 1e-3, 0, 1}, 0, false, true},
    {DLC_STEP_RMSPROP, 5, {0.9, 1e-3, 0.8, 0}, 0, false, false},
    {DLC_STEP_RMSPROP, 7, {0.9, 1e-3, 0.8, 1}, 0.1, true, false},
    {DLC_STEP_ADAGRAD, 1, {1e-3}, 0, false, false},
    {DLC_STEP_ADADELTA, 3, {0.9, 1e-3}, 0, false, false},
    {DLC_STEP_LION, 1, {0.9, 0.99}, 0.1, true, false},
};
enum { CASES = sizeof cases / sizeof cases[0] };

/* rate, step_size or g_size, v_scale or m_size or rectified, v_scale */
static const double scalars[] = {0.05, 0.04, 1, 0.9};
static const double average_decay = 0.75;

static void subtract(element *x, long double change)
{
    x->p -= change;
    x->size += fabsl(change);
}

static void step_sgd(element *x, const double *own)
{
    const long double rate = scalars[0], momentum = own[0];
    long double *velocity = &x->states[0];
    if (momentum == 0) {
        subtract(x, rate * x->g);
    } else if (own[2] != 0) {
        *velocity = momentum * *velocity - rate * x->g;
        subtract(x, own[1] != 0 ? rate * x->g - momentum * *velocity : -*velocity);
    } else {
        *velocity = momentum * *velocity + x->g;
        subtract(x, rate * (own[1] != 0 ? x->g + momentum * *velocity : *velocity));
    }
}

static void step_moments(element *x, dlc_step_kind kind, const double *own)
{
    long double *m = &x->states[0], *v = &x->states[1], *largest = &x->states[2];
    *m = own[0] * *m + (1 - (long double)own[0]) * x->g;
    *v = own[1] * *v + (1 - (long double)own[1]) * x->g * x->g;
    if (kind == DLC_STEP_NADAM) {
        subtract(x, (scalars[1] * x->g + scalars[2] * *m) / (sqrtl(*v) * scalars[3] + own[2]));
    } else if (kind == DLC_STEP_RADAM) {
        subtract(x, scalars[1] * *m / (sqrtl(*v) + own[2]));
    } else {
        if (own[3] != 0)
            *largest = fmaxl(*largest, *v);
        subtract(x, scalars[1] * *m / (sqrtl(own[3] != 0 ? *largest : *v) * scalars[2] + own[2]));
    }
}

static void step_rmsprop(element *x, const double *own)
{
    long double *v = &x->states[0], *mean = &x->states[1], *velocity = &x->states[2];
    const long double rest = 1 - (long double)own[0];
    *v = own[0] * *v + rest * x->g * x->g;
    *mean = own[0] * *mean + rest * x->g;
    long double step = x->g / (sqrtl(own[3] != 0 ? *v - *mean * *mean : *v) + own[1]);
    *velocity = own[2] * *velocity + step;
    subtract(x, scalars[0] * (own[2] != 0 ? *velocity : step));
}

static void step_adadelta(element *x, const double *own)
{
    long double *v = &x->states[0], *u = &x->states[1], rest = 1 - (long double)own[0];
    *v = own[0] * *v + rest * x->g * x->g;
    long double change = sqrtl(*u + own[1]) / sqrtl(*v + own[1]) * x->g;
    *u = own[0] * *u + rest * change * change;
    subtract(x, scalars[0] * change);
}

static void step_lion(element *x, const double *own)
{
    long double *m = &x->states[0], joined = own[0] * *m + (1 - (long double)own[0]) * x->g;
    subtract(x, scalars[0] * ((joined > 0) - (joined < 0)));
    *m = own[1] * *m + (1 - (long double)own[1]) * x->g;
}

static void reference_step(element *x, const step_case *step)
{
    const double *own = step->own;
    x->size = fabsl(x->p);
    if (step->decoupled)
        x->p *= 1 - (long double)scalars[0] * step->weight_decay;
    else
        x->g += step->weight_decay * x->p;
    switch (step->kind) {
    case DLC_STEP_SGD: step_sgd(x, own); break;
    case DLC_STEP_RMSPROP: step_rmsprop(x, own); break;
    case DLC_STEP_ADAGRAD:
        x->states[0] += x->g * x->g;
        subtract(x, scalars[0] * x->g / (sqrtl(x->states[0]) + own[0]));
        break;
    case DLC_STEP_ADADELTA: step_adadelta(x, own); break;
    case DLC_STEP_LION: step_lion(x, own); break;
    default: step_moments(x, step->kind, own);
    }
    x->average = average_decay * x->average + (1 - average_decay) * x->p;
}

enum { PARAM, GRAD, AVERAGE, STATES, MOST = 35 };

/* Sums of a gradient and a state of the same sign lose no digits, so that one bound serves all formulas. */
static void fill_arrays(int32_t dtype, void *arrays[STATES + DLC_STEP_MAX_STATES], int64_t n, edge edge, bool squares,
                        bool opposite)
{
    for (int array = 0; array < STATES + DLC_STEP_MAX_STATES; array++)
        arrays[array] = place(array, dtype, n, edge);
    for (int64_t i = 0; i < n; i++) {
        double sign = i % 3 == 0 ? -1 : 1;
        set(dtype, arrays[PARAM], i, sign * next_uniform(1, 2));
        set(dtype, arrays[GRAD], i, sign * next_uniform(0.5, 1.5));
        set(dtype, arrays[AVERAGE], i, sign * next_uniform(1, 2));
        set(dtype, arrays[STATES], i,
            squares ? next_uniform(4, 8) : (opposite ? -sign : sign) * next_uniform(0.5, 1.5));
        set(dtype, arrays[STATES + 1], i, next_uniform(0.5, 1.5));
        set(dtype, arrays[STATES + 2], i, (squares ? sign : 1) * next_uniform(0.5, 1.5));
    }
}

static void test_step_of(const dlc_real_kernels *kernels, int32_t dtype, const step_case *step, int64_t n, edge edge)
{
    const bool squares = step->kind >= DLC_STEP_RMSPROP && step->kind <= DLC_STEP_ADADELTA;
    const bool opposite = step->kind == DLC_STEP_SGD && step->own[2] != 0;
    void *x[STATES + DLC_STEP_MAX_STATES];
    element expected[MOST];
    fill_arrays(dtype, x, n, edge, squares, opposite);
    for (int64_t i = 0; i < n; i++) {
        expected[i] =
            (element){.p = get(dtype, x[PARAM], i), .g = get(dtype, x[GRAD], i), .average = get(dtype, x[AVERAGE], i)};
        for (int s = 0; s < DLC_STEP_MAX_STATES; s++)
            expected[i].states[s] = get(dtype, x[STATES + s], i);
        reference_step(&expected[i], step);
    }
    /* as two parameters, the first of which has a third of the elements */
    const int64_t begins[] = {0, n / 3, n}, size = size_of(dtype);
    dlc_step_part parts[2];
    for (int part = 0; part < 2; part++) {
        const int64_t begin = begins[part] * size;
        dlc_step_arrays arrays = {.param = (char *)x[PARAM] + begin,
                                  .grad = (char *)x[GRAD] + begin,
                                  .average = step->average ? (char *)x[AVERAGE] + begin : NULL};
        for (int s = 0; s < DLC_STEP_MAX_STATES; s++)
            arrays.states[s] = step->states >> s & 1 ? (char *)x[STATES + s] + begin : NULL;
        parts[part] = (dlc_step_part){arrays, begins[part + 1] - begins[part], part == 0 ? &parts[1] : NULL};
    }
    dlc_step_options options = {
        .weight_decay = step->weight_decay, .decoupled = step->decoupled, .average = average_decay};
    memcpy(options.own, step->own, sizeof options.own);
    kernels->step[step->kind](parts, &options, scalars);

    const long double unit = 8 * epsilon_of(dtype);
    for (int64_t i = 0; i < n; i++) {
        const element *e = &expected[i];
        double p = get(dtype, x[PARAM], i);
        expect(is_within(p, e->p, unit * e->size), "parameter %lld is %.17g, not %.17Lg", (long long)i, p, e->p);
        if (step->average)
            expect(is_within(get(dtype, x[AVERAGE], i), e->average, unit * (fabsl(e->average) + e->size)),
                   "average %lld", (long long)i);
        for (int s = 0; s < DLC_STEP_MAX_STATES; s++)
            if (step->states >> s & 1)
                expect(is_within(get(dtype, x[STATES + s], i), e->states[s], unit * fabsl(e->states[s])),
                       "state %d of %lld is %.17g, not %.17Lg", s, (long long)i, get(dtype, x[STATES + s], i),
                       e->states[s]);
    }
    expect_intact();
}

/* The step of Adagrad is 1 / root(state) with a gradient whose square is 0 and the rate that is its inverse: the roots of states
 * from the smallest to the largest, and of those about which vectors may go another way, are those of C. */
static void test_roots(const dlc_real_kernels *kernels, int32_t dtype)
{
    enum { N = 1 << 12, TURNS = 64 };
    const bool is_float = dtype == DLC_FLOAT32;
    const double special[] = {0, is_float ? FLT_TRUE_MIN : DBL_TRUE_MIN, 0x1p-103, nextafter(0x1p-102, 0), 0x1p-102,
                              is_float ? FLT_MIN : DBL_MIN, 1, is_float ? FLT_MAX : DBL_MAX, INFINITY, NAN, -1};
    enum { SPECIAL = sizeof special / sizeof *special };
    const double gradient = is_float ? 0x1p-80 : 0x1p-600, rate = 1 / gradient;
    const dlc_step_options options = {.own = {0}};
    char *param = place(PARAM, dtype, N, EDGE_BEHIND), *state = place(STATES, dtype, N, EDGE_BEHIND);
    char *grad = place(GRAD, dtype, N, EDGE_BEHIND);
    for (int turn = 0; turn < TURNS; turn++) {
        describe("roots, turn %d, float%d", turn, is_float ? 32 : 64);
        for (int64_t i = 0; i < N; i++) {
            const int exponent = is_float ? (int)(next_bits() % 276) - 148 : (int)(next_bits() % 2096) - 1072;
            set(dtype, state, i, turn == 0 ? special[i / 64 % SPECIAL] : ldexp(next_uniform(1, 2), exponent));
            set(dtype, grad, i, gradient);
            set(dtype, param, i, 0);
        }
        if (turn == 1) /* one in a vector of others */
            for (int64_t i = 0; i < N; i += 37)
                set(dtype, state, i, special[i % SPECIAL]);
        const dlc_step_part part = {{.param = param, .states = {state}, .grad = grad}, N, NULL};
        double before[N];
        for (int64_t i = 0; i < N; i++)
            before[i] = get(dtype, state, i);
        kernels->step[DLC_STEP_ADAGRAD](&part, &options, &rate);
        for (int64_t i = 0; i < N; i++) {
            const double root = is_float ? sqrtf((float)before[i]) : sqrt(before[i]);
            const double expected = is_float ? -(1 / (float)root) : -(1 / root), got = get(dtype, param, i);
            expect(got == expected || (isnan(got) && isnan(expected)), "1 / root(%a) is %a, not %a", before[i], -got, -expected);
        }
        expect_intact();
    }
}

void test_steps(const dlc_real_kernels *kernels, int32_t dtype)
{
    test_roots(kernels, dtype);
    static const int64_t lengths[] = {0, 1, 2, 3, 5, 8, 15, 17, MOST};
    for (int k = 0; k < CASES; k++)
        for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
            describe("optimiser step %d (case %d) of %lld elements, float%d", cases[k].kind, k, (long long)lengths[i],
                     dtype == DLC_FLOAT32 ? 32 : 64);
            test_step_of(kernels, dtype, &cases[k], lengths[i], i % 2);
        }
}
