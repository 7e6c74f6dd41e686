/* Direct calls: one operation on the caller's arrays, run on as many threads as its cost deserves. They serve
 * dlcore.ops and the tests; a model runs through a plan instead. Arrays are checked for shape and dtype; that outputs
 * do not overlap inputs (unless an elementwise one is the same array exactly) is the caller's to see. */
#ifndef DLC_OPS_H
#define DLC_OPS_H

#include "cpu/kernels.h"

/* What an instruction of map programs is called, and how many operands it reads. */
DLC_API dlc_status dlc_map_instruction_info(const char **name, int32_t *arity, int32_t op);

/* The shape of a @ b, with the messages for arrays that do not fit; both have at least two axes. */
DLC_API dlc_status dlc_matmul_shape(int64_t *shape, int32_t *ndim, const dlc_array *a, const dlc_array *b);

/* dlc_matmul of float32 arrays that are rounded to bfloat16, with sums in float32. Numbers below 2^-126 count as 0. */
DLC_API dlc_status dlc_matmul_bfloat16(const dlc_array *out, const dlc_array *a, const dlc_array *b, const void *packed_b);

/* packed = w (k, n; float32), rounded to bfloat16 once for any number of the products above. They take it as packed_b, which is
 * NULL else, and read the shape of b alone. Its layout is that of the kernel table in use, for this process only. */
DLC_API dlc_status dlc_packed_bytes(int64_t *bytes, const dlc_array *w);
DLC_API dlc_status dlc_pack_bfloat16(void *packed, const dlc_array *w);

/* What these products are made of: "amx" and "native" are instructions for bfloat16, of squares and of vectors; "emulated". */
DLC_API dlc_status dlc_bfloat16_kind(const char **kind);

/* out (n, m) = activation(x (n, k) @ w (k, m) + b (m)); b may be NULL. activation: an instruction of arity 1, or of
 * arity 2 with its parameter; DLC_MAP_COPY is none. in_bfloat16: the product as of dlc_matmul_bfloat16, with its packed_b. */
DLC_API dlc_status dlc_linear(const dlc_array *out, const dlc_array *x, const dlc_array *w, const dlc_array *b,
                              int32_t activation, double parameter, bool in_bfloat16, const void *packed_w);

/* out = op(inputs[0], ...), computed in the dtype of out; inputs broadcast to out's shape and may be of any dtype. out_is_new:
 * whether it was just allocated. */
DLC_API dlc_status dlc_apply(const dlc_array *out, int32_t op, const dlc_array *inputs, bool out_is_new);

/* Any map program, as words, over `shape`; arrays: outputs, then inputs. */
DLC_API dlc_status dlc_run_map(const int64_t *words, int64_t n_words, const dlc_array *arrays, int32_t n_arrays,
                               const int64_t *shape, int32_t ndim, int64_t rows);

/* out = softmax(x) along the last axis, or its logarithm. */
DLC_API dlc_status dlc_softmax(const dlc_array *out, const dlc_array *x, bool logarithm);

typedef enum dlc_loss {
    DLC_LOSS_MSE = 0, /* (p - t)^2 */
    DLC_LOSS_MAE,     /* |p - t| */
    DLC_LOSS_HUBER,   /* d^2 / 2 for d = |p - t| <= delta, else delta (d - delta / 2) */
    DLC_LOSS_BINARY_CROSS_ENTROPY, /* of the logit p: log(1 + exp(p)) - t p */
    DLC_LOSS_COUNT
} dlc_loss;

/* *loss = mean over all elements of pred and target (n, ...), which agree in shape; with weight (n) the samples' means
 * weigh sum(w l) / sum(w). NaN when there are no elements. */
DLC_API dlc_status dlc_elementwise_loss(double *loss, int32_t kind, const dlc_array *pred, const dlc_array *target,
                                        const dlc_array *weight, double delta);

/* *loss = mean over rows of -sum_j t_j log softmax(logits)_j for logits (n, c) with contiguous rows; target: int64
 * labels (n; contiguous), range-checked, or weights of classes (n, c; contiguous rows) of the logits' dtype. */
DLC_API dlc_status dlc_cross_entropy(double *loss, const dlc_array *logits, const dlc_array *target,
                                     const dlc_array *weight);

/* One optimiser step of a dlc_step_kind over n contiguous elements. */
DLC_API dlc_status dlc_optimizer_step(int32_t dtype, int32_t kind, const dlc_step_arrays *arrays,
                                      const dlc_step_options *options, const double *scalars, int64_t n);

typedef enum dlc_random_kind {
    DLC_RANDOM_FILL_UNIFORM = 0,
    DLC_RANDOM_FILL_NORMAL,
    DLC_RANDOM_FILL_KEEP_MASK
} dlc_random_kind;

/* out (n; contiguous) = the first elements of a random array; keep is read for masks only. */
DLC_API dlc_status dlc_random_fill(int32_t dtype, void *out, int64_t n, int32_t kind, double keep, uint64_t seed,
                                   uint32_t stream, uint64_t step);

/* The size of a team that is started for `requested` threads; for tests. */
DLC_API int32_t dlc_team_size(int32_t requested);

#endif
