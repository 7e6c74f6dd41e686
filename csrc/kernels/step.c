/* One optimiser step in one pass over memory; the formulas stand in cpu/steps.h. Every element sees the same operations
 * whatever its place.
 *
 * Whether a term is there is decided once a call and never by a weight of 0, which would turn an infinite parameter into
 * NaN. */
#include "kernels/lanes.h"
#include "kernels/step_kernels.h"

/* Which states there are: bit i for states[i]. */
typedef enum states { NONE = 0, FIRST = 1, SECOND = 2, THIRD = 4 } states;

/* A vector of the parameter, of those of its states that are present, and of the gradient. */
typedef struct lanes {
    vreal p, states[DLC_STEP_MAX_STATES], g;
    states present;
} lanes;

/* a x + b y */
DLC_INLINE vreal mix(real a, vreal x, real b, vreal y) { return v_multiply_add(v_splat(a), x, b * y); }

/* Changes the parameter and its states; `constants` are those of the step. */
typedef void step_rule(lanes *x, const void *constants);

/* What the beginning and the end of every step need. */
typedef struct frame {
    real weight_decay, shrink, average, one_minus_average;
} frame;

DLC_INLINE vreal load(const void *array, int64_t i, int64_t n, const bool whole)
{
    const real *first = (const real *)array + i;
    return whole ? v_load(first) : v_load_part(first, n - i, 0);
}

DLC_INLINE void store(void *array, vreal v, int64_t i, int64_t n, const bool whole)
{
    real *first = (real *)array + i;
    if (whole)
        v_store(first, v);
    else
        v_store_part(first, v, n - i);
}

/* The vector at element i, or what is left of it at the end of the arrays. */
DLC_INLINE void step_lanes(const dlc_step_arrays *a, int64_t i, int64_t n, const bool whole, frame frame, const bool l2,
                           const bool average, step_rule *rule, const states present, const void *constants)
{
    lanes x = {.p = load(a->param, i, n, whole), .g = load(a->grad, i, n, whole), .present = present};
    for (int s = 0; s < DLC_STEP_MAX_STATES; s++)
        if (present >> s & 1)
            x.states[s] = load(a->states[s], i, n, whole);
    if (l2)
        x.g = v_multiply_add(v_splat(frame.weight_decay), x.p, x.g);
    x.p *= frame.shrink;
    rule(&x, constants);
    store(a->param, x.p, i, n, whole);
    for (int s = 0; s < DLC_STEP_MAX_STATES; s++)
        if (present >> s & 1)
            store(a->states[s], x.states[s], i, n, whole);
    if (average) {
        vreal mean = load(a->average, i, n, whole);
        store(a->average, mix(frame.average, mean, frame.one_minus_average, x.p), i, n, whole);
    }
}

DLC_INLINE void step_loop(const dlc_step_arrays *a, int64_t n, frame frame, const bool l2, const bool average,
                          step_rule *rule, const states present, const void *constants)
{
    int64_t i = 0;
    for (; i + DLC_LANES <= n; i += DLC_LANES)
        step_lanes(a, i, n, true, frame, l2, average, rule, present, constants);
    if (i < n)
        step_lanes(a, i, n, false, frame, l2, average, rule, present, constants);
}

/* Compiled anew for each rule and set of states. What else a loop may do without is a constant of it, too: tested in the
 * loop, the two cost SGD 3.5 times its time and Adam 1.4 times, on 4096 elements. */
DLC_INLINE void run_step(const dlc_step_part *parts, const dlc_step_options *options, double rate, step_rule *rule,
                         const states present, const void *constants)
{
    const bool decoupled = options->decoupled, l2 = !decoupled && options->weight_decay != 0;
    const frame frame = {
        .weight_decay = (real)options->weight_decay,
        .shrink = (real)(decoupled ? 1 - rate * options->weight_decay : 1),
        .average = (real)options->average,
        .one_minus_average = (real)(1 - options->average),
    };
    for (const dlc_step_part *part = parts; part; part = part->next) {
        const dlc_step_arrays a = part->arrays; /* a copy, which no store to an array can change */
        if (a.average)
            step_loop(&a, part->n, frame, l2, true, rule, present, constants);
        else if (l2)
            step_loop(&a, part->n, frame, true, false, rule, present, constants);
        else
            step_loop(&a, part->n, frame, false, false, rule, present, constants);
    }
}

/* ---- SGD ---- */

typedef struct sgd_constants {
    real rate, momentum;
    bool nesterov, sklearn;
} sgd_constants;

/* p -= rate direction */
DLC_INLINE void step_by(lanes *x, real rate, vreal direction) { x->p = v_multiply_add(v_splat(-rate), direction, x->p); }

DLC_INLINE void sgd_rule(lanes *x, const void *constants)
{
    const sgd_constants k = *(const sgd_constants *)constants;
    vreal *velocity = &x->states[0];
    if (!(x->present & FIRST)) {
        step_by(x, k.rate, x->g);
    } else if (k.sklearn) {
        *velocity = mix(k.momentum, *velocity, -k.rate, x->g);
        x->p += k.nesterov ? mix(k.momentum, *velocity, -k.rate, x->g) : *velocity;
    } else {
        *velocity = v_multiply_add(v_splat(k.momentum), *velocity, x->g);
        step_by(x, k.rate, k.nesterov ? v_multiply_add(v_splat(k.momentum), *velocity, x->g) : *velocity);
    }
}

static void step_sgd(const dlc_step_part *parts, const dlc_step_options *options, const double *scalars)
{
    const double *own = options->own;
    const sgd_constants k = {.rate = (real)scalars[0],
                             .momentum = (real)own[0],
                             .nesterov = own[1] != 0,
                             .sklearn = own[2] != 0};
    if (own[0] != 0)
        run_step(parts, options, scalars[0], sgd_rule, FIRST, &k);
    else
        run_step(parts, options, scalars[0], sgd_rule, NONE, &k);
}

/* The square root, with the bits that v_sqrt gives, but for the sign of -0. Steps would wait for the unit that divides and takes
 * roots; with AVX-512 in float32 an estimate of 14 bits and two steps of Newton leave it the quotient alone. The last one rounds
 * as an exact root is rounded, whatever the bits of the estimate (P. Markstein, "IA-64 and Elementary Functions", 2000): so it was
 * found for all inputs from 2^-102 on, with the estimates as they are and 2^-14 off. Where one is smaller, so that its error would
 * be subnormal, or not positive and finite, the vector takes the instruction; 0 is another matter, as units of relu that never
 * fire have it. On an Intel Xeon 10-32-2 in batches of 32 takes 0.96 of its time; 0.94 with an estimate that is 0.8 ULP off, and
 * no less with one of the quotient, too. Elsewhere it was not measured. */
#if DLC_VECTOR_BYTES == 64 && DLC_REAL_BITS == 32
DLC_INLINE vreal root(vreal x)
{
    enum { LEAST = (127 - 102) << 23, LARGEST = (255 << 23) - 1 };
    const __mmask16 some = _mm512_cmp_ps_mask(x, (vreal){0}, _CMP_NEQ_UQ);
    const __m512i above_least = (__m512i)((vuint)x - LEAST);
    if (__builtin_expect(_mm512_mask_cmpgt_epu32_mask(some, above_least, _mm512_set1_epi32(LARGEST - LEAST)), 0))
        return v_sqrt(x);
    const vreal estimate = _mm512_rsqrt14_ps(x), half = v_splat((real)0.5);
    vreal y = x * estimate, half_inverse = half * estimate;
    const vreal error = v_multiply_add(-y, half_inverse, half);
    y = v_multiply_add(y, error, y);
    half_inverse = v_multiply_add(half_inverse, error, half_inverse);
    return _mm512_maskz_fmadd_ps(some, half_inverse, v_multiply_add(-y, y, x), y);
}
#else
DLC_INLINE vreal root(vreal x) { return v_sqrt(x); }
#endif

/* ---- Adam and its kin ---- */

typedef struct moments {
    real beta1, beta2, one_minus_beta1, one_minus_beta2, eps;
} moments;

static moments make_moments(const double *own)
{
    return (moments){.beta1 = (real)own[0],
                     .beta2 = (real)own[1],
                     .one_minus_beta1 = (real)(1 - own[0]),
                     .one_minus_beta2 = (real)(1 - own[1]),
                     .eps = (real)own[2]};
}

DLC_INLINE void update_moments(lanes *x, moments k)
{
    x->states[0] = mix(k.beta1, x->states[0], k.one_minus_beta1, x->g);
    x->states[1] = mix(k.beta2, x->states[1], k.one_minus_beta2, x->g * x->g);
}

typedef struct adam_constants {
    moments moments;
    real step_size, v_scale;
} adam_constants;

DLC_INLINE void adam_rule(lanes *x, const void *constants)
{
    const adam_constants k = *(const adam_constants *)constants;
    update_moments(x, k.moments);
    vreal m = x->states[0], v = x->states[1];
    if (x->present & THIRD) { /* amsgrad */
        vreal largest = x->states[2];
        v = x->states[2] = v_blend((v > largest) | (v != v), v, largest);
    }
    x->p -= k.step_size * m / v_multiply_add(root(v), v_splat(k.v_scale), v_splat(k.moments.eps));
}

static void step_adam(const dlc_step_part *parts, const dlc_step_options *options, const double *scalars)
{
    const adam_constants k = {.moments = make_moments(options->own),
                              .step_size = (real)scalars[1],
                              .v_scale = (real)scalars[2]};
    if (options->own[3] != 0)
        run_step(parts, options, scalars[0], adam_rule, FIRST | SECOND | THIRD, &k);
    else
        run_step(parts, options, scalars[0], adam_rule, FIRST | SECOND, &k);
}

typedef struct nadam_constants {
    moments moments;
    real g_size, m_size, v_scale;
} nadam_constants;

DLC_INLINE void nadam_rule(lanes *x, const void *constants)
{
    const nadam_constants k = *(const nadam_constants *)constants;
    update_moments(x, k.moments);
    x->p -= mix(k.g_size, x->g, k.m_size, x->states[0]) / (root(x->states[1]) * k.v_scale + k.moments.eps);
}

static void step_nadam(const dlc_step_part *parts, const dlc_step_options *options, const double *scalars)
{
    const nadam_constants k = {.moments = make_moments(options->own),
                               .g_size = (real)scalars[1],
                               .m_size = (real)scalars[2],
                               .v_scale = (real)scalars[3]};
    run_step(parts, options, scalars[0], nadam_rule, FIRST | SECOND, &k);
}

typedef struct radam_constants {
    moments moments;
    real step_size;
    bool rectified;
} radam_constants;

DLC_INLINE void radam_rule(lanes *x, const void *constants)
{
    const radam_constants k = *(const radam_constants *)constants;
    update_moments(x, k.moments);
    vreal m = x->states[0];
    step_by(x, k.step_size, k.rectified ? m / (root(x->states[1]) + k.moments.eps) : m);
}

static void step_radam(const dlc_step_part *parts, const dlc_step_options *options, const double *scalars)
{
    const radam_constants k = {.moments = make_moments(options->own),
                               .step_size = (real)scalars[1],
                               .rectified = scalars[2] != 0};
    run_step(parts, options, scalars[0], radam_rule, FIRST | SECOND, &k);
}

/* ---- RMSprop, Adagrad, Adadelta ---- */

typedef struct rmsprop_constants {
    real rate, alpha, one_minus_alpha, eps, momentum;
} rmsprop_constants;

DLC_INLINE void rmsprop_rule(lanes *x, const void *constants)
{
    const rmsprop_constants k = *(const rmsprop_constants *)constants;
    vreal *v = &x->states[0], *mean = &x->states[1], *velocity = &x->states[2];
    *v = mix(k.alpha, *v, k.one_minus_alpha, x->g * x->g);
    vreal variance = *v;
    if (x->present & SECOND) { /* centered */
        *mean = mix(k.alpha, *mean, k.one_minus_alpha, x->g);
        /* of a gradient that hardly changes, rounding makes the variance negative */
        variance = v_at_least(v_multiply_add(-*mean, *mean, *v), 0);
    }
    vreal step = x->g / (root(variance) + k.eps);
    if (x->present & THIRD)
        step = *velocity = v_multiply_add(v_splat(k.momentum), *velocity, step);
    step_by(x, k.rate, step);
}

static void step_rmsprop(const dlc_step_part *parts, const dlc_step_options *options, const double *scalars)
{
    const double *own = options->own;
    const rmsprop_constants k = {.rate = (real)scalars[0],
                                 .alpha = (real)own[0],
                                 .one_minus_alpha = (real)(1 - own[0]),
                                 .eps = (real)own[1],
                                 .momentum = (real)own[2]};
    const bool momentum = own[2] != 0, centered = own[3] != 0;
    if (momentum && centered)
        run_step(parts, options, scalars[0], rmsprop_rule, FIRST | SECOND | THIRD, &k);
    else if (momentum)
        run_step(parts, options, scalars[0], rmsprop_rule, FIRST | THIRD, &k);
    else if (centered)
        run_step(parts, options, scalars[0], rmsprop_rule, FIRST | SECOND, &k);
    else
        run_step(parts, options, scalars[0], rmsprop_rule, FIRST, &k);
}

typedef struct adagrad_constants {
    real rate, eps;
} adagrad_constants;

DLC_INLINE void adagrad_rule(lanes *x, const void *constants)
{
    const adagrad_constants k = *(const adagrad_constants *)constants;
    x->states[0] = v_multiply_add(x->g, x->g, x->states[0]);
    x->p -= k.rate * x->g / (root(x->states[0]) + k.eps);
}

static void step_adagrad(const dlc_step_part *parts, const dlc_step_options *options, const double *scalars)
{
    const adagrad_constants k = {.rate = (real)scalars[0], .eps = (real)options->own[0]};
    run_step(parts, options, scalars[0], adagrad_rule, FIRST, &k);
}

typedef struct adadelta_constants {
    real rate, rho, one_minus_rho, eps;
} adadelta_constants;

DLC_INLINE void adadelta_rule(lanes *x, const void *constants)
{
    const adadelta_constants k = *(const adadelta_constants *)constants;
    vreal *v = &x->states[0], *u = &x->states[1];
    *v = mix(k.rho, *v, k.one_minus_rho, x->g * x->g);
    vreal delta = root(*u + k.eps) / root(*v + k.eps) * x->g;
    *u = mix(k.rho, *u, k.one_minus_rho, delta * delta);
    step_by(x, k.rate, delta);
}

static void step_adadelta(const dlc_step_part *parts, const dlc_step_options *options, const double *scalars)
{
    const double *own = options->own;
    const adadelta_constants k = {.rate = (real)scalars[0],
                                  .rho = (real)own[0],
                                  .one_minus_rho = (real)(1 - own[0]),
                                  .eps = (real)own[1]};
    run_step(parts, options, scalars[0], adadelta_rule, FIRST | SECOND, &k);
}

/* ---- Lion ---- */

typedef struct lion_constants {
    real rate, beta1, one_minus_beta1, beta2, one_minus_beta2;
} lion_constants;

/* -1, 0 or 1, and NaN of NaN */
static inline vreal sign(vreal x)
{
    vreal one = v_splat(1), zero = v_splat(0);
    return v_blend(x > 0, one, v_blend(x < 0, -one, v_blend(x == 0, zero, x)));
}

DLC_INLINE void lion_rule(lanes *x, const void *constants)
{
    const lion_constants k = *(const lion_constants *)constants;
    vreal *m = &x->states[0];
    step_by(x, k.rate, sign(mix(k.beta1, *m, k.one_minus_beta1, x->g)));
    *m = mix(k.beta2, *m, k.one_minus_beta2, x->g);
}

static void step_lion(const dlc_step_part *parts, const dlc_step_options *options, const double *scalars)
{
    const double *own = options->own;
    const lion_constants k = {.rate = (real)scalars[0],
                              .beta1 = (real)own[0],
                              .one_minus_beta1 = (real)(1 - own[0]),
                              .beta2 = (real)own[1],
                              .one_minus_beta2 = (real)(1 - own[1])};
    run_step(parts, options, scalars[0], lion_rule, FIRST, &k);
}

dlc_step_kernel *const DLC_NAME(dlc_step_kernels)[DLC_STEP_COUNT] = {
    [DLC_STEP_SGD] = step_sgd,
    [DLC_STEP_ADAM] = step_adam,
    [DLC_STEP_NADAM] = step_nadam,
    [DLC_STEP_RADAM] = step_radam,
    [DLC_STEP_RMSPROP] = step_rmsprop,
    [DLC_STEP_ADAGRAD] = step_adagrad,
    [DLC_STEP_ADADELTA] = step_adadelta,
    [DLC_STEP_LION] = step_lion,
};
