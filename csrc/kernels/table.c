/* The kernel table of one ISA and real dtype: everything that cpu/dispatch.c chooses between. */
#include "kernels/gemm_kernels.h"
#include "kernels/kernels_decl.h"
#include "kernels/map_kernels.h"
#include "kernels/probe_kernels.h"
#include "kernels/step_kernels.h"

extern const dlc_real_kernels DLC_NAME(dlc_real_kernels);

const dlc_real_kernels DLC_NAME(dlc_real_kernels) = {
    .gemm = &DLC_NAME(dlc_gemm_kernels),
    .map = DLC_NAME(dlc_map_kernels),
    .convert = DLC_NAME(dlc_convert_kernels),
    .step = DLC_NAME(dlc_step_kernels),
    .probe = &DLC_NAME(dlc_probe_kernels),
    .fill = DLC_NAME(dlc_fill),
    .copy_rows = DLC_NAME(dlc_copy_rows),
    .fill_rows = DLC_NAME(dlc_fill_rows),
    .add_to_rows = DLC_NAME(dlc_add_to_rows),
    .stream = DLC_NAME(dlc_stream),
    .stream_end = DLC_NAME(dlc_stream_end),
    .sum = DLC_NAME(dlc_sum),
    .max = DLC_NAME(dlc_max),
    .min = DLC_NAME(dlc_min),
    .sum_each = DLC_NAME(dlc_sum_each),
    .sum_rows = DLC_NAME(dlc_sum_rows),
    .max_rows = DLC_NAME(dlc_max_rows),
    .min_rows = DLC_NAME(dlc_min_rows),
    .softmax = DLC_NAME(dlc_softmax),
    .log_softmax = DLC_NAME(dlc_log_softmax),
    .softmax_loss = DLC_NAME(dlc_softmax_loss),
    .softmax_loss_transposed = DLC_NAME(dlc_softmax_loss_transposed),
    .random_words = DLC_NAME(dlc_random_words),
    .numbers_below = DLC_NAME(dlc_numbers_below),
    .uniform = DLC_NAME(dlc_uniform),
    .normal = DLC_NAME(dlc_normal),
    .keep_mask = DLC_NAME(dlc_keep_mask),
};
