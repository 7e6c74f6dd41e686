/* The plan as bytes: what Python writes, what a saved model holds, what dlc_plan_load checks.
 *
 *     header | slots | tensors | ops | operands (int32, padded to 8 bytes) | attributes (8-byte words)
 *
 * Little-endian, every table 8-byte aligned. An op record holds an opcode, operands and attributes; it holds
 * no tile, packed layout, thread count or ISA. */
#ifndef DLC_PLAN_RECORD_H
#define DLC_PLAN_RECORD_H

#include "dlcore.h"

#define DLC_PLAN_MAGIC 0x314e414c50434c44ll /* "DLCPLAN1" read as a little-endian word */
#define DLC_PLAN_VERSION 4

typedef struct dlc_plan_header {
    int64_t magic;
    int64_t version;
    int64_t total_bytes;
    int64_t row_capacity; /* the largest number of rows in a step */
    int64_t arena_bytes;  /* of the tensors in the arena; scratch comes on top */
    int64_t n_slots, n_tensors, n_ops, n_operands, n_attributes;
    int64_t n_block_ops; /* the first ops, which run on a block of rows after the other; 0: none */
    int64_t block_rows;  /* rows of a block; 0 without such ops */
    int64_t block_arena_bytes; /* of the tensors of a block */
    int64_t sums_bytes;        /* the start of the arena, for what block ops sum over all blocks */
} dlc_plan_header;

/* Tensors that lie in no slot: in the arena, which the team shares, or in the block arena, of which every thread has
 * one and which holds a block of rows at a time. */
enum { DLC_IN_ARENA = -1, DLC_IN_BLOCK_ARENA = -2 };

/* A slot is memory that the caller binds for a run. */
typedef enum dlc_slot_kind {
    DLC_SLOT_FIXED = 0,   /* the same bytes at every step: parameters, optimiser state, constants */
    DLC_SLOT_STREAM = 1,  /* a row for each row of the run; a step sees its own rows first */
    DLC_SLOT_STEP = 2,    /* an entry for each step: learning rates in, losses out */
    DLC_SLOT_DATASET = 3  /* any number of rows; only ops that range-check their indices may read it */
} dlc_slot_kind;

typedef struct dlc_slot_record {
    int32_t kind;     /* dlc_slot_kind */
    int32_t writable; /* 0 or 1 */
    int32_t dtype;
    int32_t reserved; /* 0 */
    int64_t bytes;    /* FIXED: of all of it; STREAM and DATASET: of a row; STEP: of an entry */
} dlc_slot_record;

/* An extent d >= 0 is fixed; d < 0 stands for -d * rows, the rows of the step, or of the block for operands of block
 * ops. Byte offsets are multiples of the dtype's size; in an arena, tensors lie where their capacity of rows fits: in
 * the block arena, block_rows. Strides count elements, are >= 0 and
 * do not depend on the rows. In a STREAM slot one extent -d counts rows, and d of its strides make a row; in a DATASET
 * slot that extent is -1 and comes first. Beyond ndim, extents and strides are 0. */
typedef struct dlc_tensor_record {
    int32_t dtype;
    int32_t ndim;
    int64_t slot; /* or DLC_IN_ARENA, DLC_IN_BLOCK_ARENA */
    int64_t offset;
    int64_t shape[DLC_MAX_NDIM];
    int64_t stride[DLC_MAX_NDIM];
} dlc_tensor_record;

typedef struct dlc_op_record {
    int32_t opcode;
    int32_t n_out, n_in; /* operands: outputs first; an output may also be read (parameters, state) */
    int32_t n_attributes;
    int32_t first_operand;
    int32_t first_attribute;
} dlc_op_record;

#endif
