/* Optimiser steps: what their kernels get, and what they compute. A kernel takes one step over n elements of a parameter, in
 * one pass over memory.
 *
 * Every step begins alike: where weight_decay is not 0, p *= 1 - rate * weight_decay if it is decoupled, else
 * g += weight_decay * p first. And ends alike: average = decay * average + (1 - decay) * p, where one is kept.
 * In between, with the names of the states, options and scalars that the kinds list:
 *
 *   sgd       p -= rate g; with momentum velocity = momentum velocity + g; p -= rate velocity, or for nesterov
 *             p -= rate (g + momentum velocity). sklearn folds the rate into the velocity, as scikit-learn's SGDOptimizer:
 *             velocity = momentum velocity - rate g; p += velocity, or p += momentum velocity - rate g
 *   adam      m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2; largest = max(largest, v) for amsgrad;
 *             p -= step_size m / (sqrt(v or largest) v_scale + eps)
 *             PyTorch: step_size = rate / (1 - beta1^t), v_scale = 1 / sqrt(1 - beta2^t)
 *             scikit-learn: step_size = rate sqrt(1 - beta2^t) / (1 - beta1^t), v_scale = 1
 *   nadam     m and v as adam's; p -= (g_size g + m_size m) / (sqrt(v) v_scale + eps)
 *   radam     m and v as adam's; p -= step_size m, over sqrt(v) + eps when rectified is 1
 *   rmsprop   v = alpha v + (1 - alpha) g^2; centered: mean = alpha mean + (1 - alpha) g; d = sqrt(v or v - mean^2) + eps;
 *             p -= rate g / d; with momentum velocity = momentum velocity + g / d; p -= rate velocity
 *   adagrad   sum += g^2; p -= rate g / (sqrt(sum) + eps)
 *   adadelta  v = rho v + (1 - rho) g^2; d = sqrt(u + eps) / sqrt(v + eps) g; u = rho u + (1 - rho) d^2; p -= rate d
 *   lion      p -= rate sign(beta1 m + (1 - beta1) g); m = beta2 m + (1 - beta2) g */
#ifndef DLC_CPU_STEPS_H
#define DLC_CPU_STEPS_H

#include <stdbool.h>
#include <stdint.h>

/* Behind each: its states; its own options; its scalars. */
typedef enum dlc_step_kind {
    DLC_STEP_SGD = 0,  /* velocity with momentum; momentum, nesterov, sklearn; rate */
    DLC_STEP_ADAM,     /* m, v, largest with amsgrad; beta1, beta2, eps, amsgrad; rate, step_size, v_scale */
    DLC_STEP_NADAM,    /* m, v; beta1, beta2, eps; rate, g_size, m_size, v_scale */
    DLC_STEP_RADAM,    /* m, v; beta1, beta2, eps; rate, step_size, rectified */
    DLC_STEP_RMSPROP,  /* v, mean if centered, velocity with momentum; alpha, eps, momentum, centered; rate */
    DLC_STEP_ADAGRAD,  /* sum; eps; rate */
    DLC_STEP_ADADELTA, /* v, u; rho, eps; rate */
    DLC_STEP_LION,     /* m; beta1, beta2; rate */
    DLC_STEP_COUNT
} dlc_step_kind;

enum { DLC_STEP_MAX_STATES = 3, DLC_STEP_MAX_OPTIONS = 4 };

/* Arrays of n elements. They overlap nowhere. */
typedef struct dlc_step_arrays {
    void *param;
    void *states[DLC_STEP_MAX_STATES]; /* NULL where the options do without */
    void *average;                     /* NULL: none is kept */
    const void *grad;
} dlc_step_arrays;

typedef struct dlc_step_options {
    double weight_decay;
    bool decoupled;
    double average; /* the decay of the average */
    double own[DLC_STEP_MAX_OPTIONS]; /* flags are 0 or 1 */
} dlc_step_options;

/* Parameters that take the same step one after the other; they have the same states and all an average or none. */
typedef struct dlc_step_part {
    dlc_step_arrays arrays;
    int64_t n;
    const struct dlc_step_part *next; /* NULL: this is the last */
} dlc_step_part;

typedef void dlc_step_kernel(const dlc_step_part *parts, const dlc_step_options *options, const double *scalars);

#endif
