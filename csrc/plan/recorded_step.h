/* The optimiser steps of cpu/steps.h as plans record them: what op_step.c and op_gemm_step.c share.
 *
 * operands    param, those states that the options ask for, average exactly when its decay is not 0; then the scalars
 * attributes  bits of weight_decay, decoupled, bits of the decay of the average; then the kind's own options. Numbers are
 *             given by their bits, flags as 0 or 1.
 * All operands but the scalars are contiguous and have one float dtype and shape; the scalars are float64 and change from
 * step to step, as a learning rate does. */
#ifndef DLC_PLAN_RECORDED_STEP_H
#define DLC_PLAN_RECORDED_STEP_H

#include "plan/operand.h"

/* A step once its attributes are read. */
typedef struct dlc_recorded_step {
    dlc_step_kind kind;
    dlc_step_options options;
    bool has_state[DLC_STEP_MAX_STATES];
    bool has_average;
    int32_t n_out;     /* param, states and average */
    int32_t n_scalars;
    int32_t cost;      /* of an element, beside what is loaded and stored */
} dlc_recorded_step;

/* Reads the attributes, which are all of a record's from `first` on. `opcode` is that of a step. */
dlc_status dlc_recorded_step_read(dlc_recorded_step *step, int32_t opcode, const dlc_op *op, int32_t first);

/* Checks the first outputs of `op`, which are those of the step, and its last input, the scalars. */
dlc_status dlc_recorded_step_check(const dlc_recorded_step *step, const dlc_op *op, const dlc_array *args,
                                   const dlc_operand *operands);

/* Elements [begin, end) of the parameter and what belongs to them; grad: the gradient of the first, and those that follow. */
dlc_step_part dlc_recorded_step_part(const dlc_recorded_step *step, const dlc_array *outs, const void *grad, int64_t begin,
                                     int64_t end);

/* Updates these elements. */
void dlc_recorded_step_run(const dlc_recorded_step *step, const dlc_real_kernels *kernels, const dlc_array *outs,
                           const void *grad, const double *scalars, int64_t begin, int64_t end);

#endif
