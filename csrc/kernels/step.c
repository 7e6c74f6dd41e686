/* One optimiser step in one pass over memory. Every element sees the same operations whatever its place. */
#include "kernels/kernels_decl.h"
#include "kernels/lanes.h"

typedef struct sgd_constants {
    real lr, momentum, weight_decay;
} sgd_constants;

/* Whether a term is there is a constant of the loop; a term of weight 0 would turn an infinite parameter into NaN. */
DLC_INLINE void sgd_lanes(vreal *p, vreal *velocity, vreal g, sgd_constants k, const bool momentum, const bool nesterov,
                          const bool sklearn, const bool decay)
{
    if (decay)
        g += k.weight_decay * *p;
    if (!momentum) {
        *p -= k.lr * g;
    } else if (sklearn) {
        *velocity = k.momentum * *velocity - k.lr * g;
        *p += nesterov ? k.momentum * *velocity - k.lr * g : *velocity;
    } else {
        *velocity = k.momentum * *velocity + g;
        *p -= k.lr * (nesterov ? g + k.momentum * *velocity : *velocity);
    }
}

DLC_INLINE void sgd_loop(real *param, real *velocity, const real *grad, sgd_constants k, int64_t n, const bool momentum,
                         const bool nesterov, const bool sklearn, const bool decay)
{
    int64_t i = 0;
    for (; i + DLC_LANES <= n; i += DLC_LANES) {
        vreal p = v_load(param + i), velocity_i = momentum ? v_load(velocity + i) : p;
        sgd_lanes(&p, &velocity_i, v_load(grad + i), k, momentum, nesterov, sklearn, decay);
        v_store(param + i, p);
        if (momentum)
            v_store(velocity + i, velocity_i);
    }
    if (i < n) {
        vreal p = v_load_part(param + i, n - i, 0), velocity_i = momentum ? v_load_part(velocity + i, n - i, 0) : p;
        sgd_lanes(&p, &velocity_i, v_load_part(grad + i, n - i, 0), k, momentum, nesterov, sklearn, decay);
        v_store_part(param + i, p, n - i);
        if (momentum)
            v_store_part(velocity + i, velocity_i, n - i);
    }
}

void DLC_NAME(dlc_sgd_step)(void *param, void *velocity, const void *grad, const dlc_sgd_options *options, int64_t n)
{
    sgd_constants k = {(real)options->lr, (real)options->momentum, (real)options->weight_decay};
    sgd_loop(param, velocity, grad, k, n, velocity != NULL, options->nesterov, options->sklearn, k.weight_decay != 0);
}

typedef struct adam_constants {
    real step_size, v_scale, beta1, beta2, one_minus_beta1, one_minus_beta2, eps, decay, l2;
} adam_constants;

DLC_INLINE void adam_lanes(vreal *p, vreal *m, vreal *v, vreal g, adam_constants k, const bool l2)
{
    if (l2)
        g += k.l2 * *p;
    *m = k.beta1 * *m + k.one_minus_beta1 * g;
    *v = k.beta2 * *v + k.one_minus_beta2 * (g * g);
    *p = *p * k.decay - k.step_size * *m / (v_sqrt(*v) * k.v_scale + k.eps);
}

void DLC_NAME(dlc_adam_step)(void *param, void *m, void *v, const void *grad, const dlc_adam_options *options, int64_t n)
{
    adam_constants k = {
        .step_size = (real)options->step_size,
        .v_scale = (real)options->v_scale,
        .beta1 = (real)options->beta1,
        .beta2 = (real)options->beta2,
        .one_minus_beta1 = (real)(1 - options->beta1),
        .one_minus_beta2 = (real)(1 - options->beta2),
        .eps = (real)options->eps,
        .decay = (real)options->decay,
        .l2 = (real)options->l2,
    };
    real *param_real = param, *m_real = m, *v_real = v;
    const real *grad_real = grad;
    const bool l2 = k.l2 != 0;
    int64_t i = 0;
    for (; i + DLC_LANES <= n; i += DLC_LANES) {
        vreal p_i = v_load(param_real + i), m_i = v_load(m_real + i), v_i = v_load(v_real + i);
        adam_lanes(&p_i, &m_i, &v_i, v_load(grad_real + i), k, l2);
        v_store(param_real + i, p_i);
        v_store(m_real + i, m_i);
        v_store(v_real + i, v_i);
    }
    if (i < n) {
        int64_t part = n - i;
        vreal p_i = v_load_part(param_real + i, part, 0);
        vreal m_i = v_load_part(m_real + i, part, 0), v_i = v_load_part(v_real + i, part, 0);
        adam_lanes(&p_i, &m_i, &v_i, v_load_part(grad_real + i, part, 0), k, l2);
        v_store_part(param_real + i, p_i, part);
        v_store_part(m_real + i, m_i, part);
        v_store_part(v_real + i, v_i, part);
    }
}
