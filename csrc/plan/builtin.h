/* The ops that come with dlcore; each is defined in the file of its name. */
#ifndef DLC_PLAN_BUILTIN_H
#define DLC_PLAN_BUILTIN_H

#include "plan/op.h"

extern const dlc_op_def dlc_gather_def;
extern const dlc_op_def dlc_gemm_def;
extern const dlc_op_def dlc_map_def;
extern const dlc_op_def dlc_softmax_def;
extern const dlc_op_def dlc_softmax_loss_def;
extern const dlc_op_def dlc_random_def;
extern const dlc_op_def dlc_sgd_step_def;
extern const dlc_op_def dlc_adam_step_def;
extern const dlc_op_def dlc_take_def;
extern const dlc_op_def dlc_scatter_add_def;
extern const dlc_op_def dlc_gemm_step_def;
extern const dlc_op_def dlc_nadam_step_def;
extern const dlc_op_def dlc_radam_step_def;
extern const dlc_op_def dlc_rmsprop_step_def;
extern const dlc_op_def dlc_adagrad_step_def;
extern const dlc_op_def dlc_adadelta_step_def;
extern const dlc_op_def dlc_lion_step_def;

#endif
