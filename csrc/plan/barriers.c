/* Where the ops of a plan need barriers. */
#include <stdlib.h>

#include "plan/loaded.h"
#include "plan/operand.h"

static bool writes_slot(const dlc_plan *plan, const dlc_op *op)
{
    for (int32_t i = 0; i < op->n_out; i++)
        if (plan->tensors[op->operands[i]].slot >= 0)
            return true;
    return false;
}

/* Whether `later` may start only when every thread has finished `earlier`. */
static bool conflict(const dlc_plan *plan, const dlc_op *earlier, const dlc_op *later)
{
    if (earlier->shared_bytes > 0 && later->shared_bytes > 0)
        return true;
    if (earlier->def->can_fail && writes_slot(plan, later))
        return true;
    for (int32_t i = 0; i < earlier->n_out + earlier->n_in; i++)
        for (int32_t j = 0; j < later->n_out + later->n_in; j++)
            if ((i < earlier->n_out || j < later->n_out) &&
                dlc_views_overlap(&plan->views[earlier->operands[i]], &plan->views[later->operands[j]]))
                return true;
    return false;
}

/* ---- Pieces of memory ---- */

/* Slots and arena, cut wherever a view begins or ends: a view is a range of pieces. Trees over the pieces then find
 * what an op may conflict with without a look at every earlier op. */
typedef struct edge {
    int64_t slot, byte;
} edge;

typedef struct piece_range {
    int64_t low, high; /* [low, high) */
} piece_range;

static int compare_edges(const void *a, const void *b)
{
    const edge *x = a, *y = b;
    if (x->slot != y->slot)
        return x->slot < y->slot ? -1 : 1;
    return (x->byte > y->byte) - (x->byte < y->byte);
}

static int64_t sort_unique(edge *edges, int64_t n)
{
    int64_t kept = 0;
    qsort(edges, (size_t)n, sizeof *edges, compare_edges);
    for (int64_t i = 0; i < n; i++)
        if (kept == 0 || compare_edges(&edges[kept - 1], &edges[i]) != 0)
            edges[kept++] = edges[i];
    return kept;
}

static int64_t find_edge(const edge *edges, int64_t n, int64_t slot, int64_t byte)
{
    edge key = {slot, byte};
    return (const edge *)bsearch(&key, edges, (size_t)n, sizeof *edges, compare_edges) - edges;
}

/* ranges (n_tensors); edges (2 n_tensors + 1) is room to work in. Returns the number of pieces. */
static int64_t find_ranges(piece_range *ranges, edge *edges, const dlc_plan *plan)
{
    const int64_t n = plan->header->n_tensors;
    for (int64_t i = 0; i < n; i++) {
        edges[2 * i] = (edge){plan->views[i].slot, plan->views[i].begin};
        edges[2 * i + 1] = (edge){plan->views[i].slot, plan->views[i].end};
    }
    int64_t n_edges = sort_unique(edges, 2 * n);
    for (int64_t i = 0; i < n; i++) {
        ranges[i].low = find_edge(edges, n_edges, plan->views[i].slot, plan->views[i].begin);
        ranges[i].high = find_edge(edges, n_edges, plan->views[i].slot, plan->views[i].end);
    }
    return n_edges;
}

/* ---- The last op at every piece ---- */

/* A tree over n_leaves pieces, a power of two: node 1 stands for all of them, nodes 2 i and 2 i + 1 for the halves of
 * node i. Ops are entered in their order, so that the last one is the one with the highest index; -1: none. */
typedef struct last_ops {
    int64_t n_leaves;
    int64_t *whole; /* of each node: the last op that was entered for all of its pieces */
    int64_t *part;  /* for one of them at least */
} last_ops;

static void enter_op(last_ops *last, piece_range range, int64_t op)
{
    if (range.low >= range.high)
        return;
    int64_t low = last->n_leaves + range.low, high = last->n_leaves + range.high;
    for (int64_t a = low, b = high; a < b; a /= 2, b /= 2) {
        if (a % 2 == 1) {
            last->whole[a] = last->part[a] = op;
            a++;
        }
        if (b % 2 == 1) {
            b--;
            last->whole[b] = last->part[b] = op;
        }
    }
    for (int64_t a = low / 2, b = (high - 1) / 2; a > 0; a /= 2, b /= 2)
        last->part[a] = last->part[b] = op;
}

static int64_t find_last(const last_ops *last, piece_range range)
{
    int64_t found = -1;
    if (range.low >= range.high)
        return found;
    int64_t low = last->n_leaves + range.low, high = last->n_leaves + range.high;
    for (int64_t a = low, b = high; a < b; a /= 2, b /= 2) {
        if (a % 2 == 1)
            found = dlc_max64(found, last->part[a++]);
        if (b % 2 == 1)
            found = dlc_max64(found, last->part[--b]);
    }
    for (int64_t a = low, b = high - 1; a > 0; a /= 2, b /= 2)
        found = dlc_max64(found, dlc_max64(last->whole[a], last->whole[b]));
    return found;
}

/* ---- Placing them ---- */

typedef struct history {
    const piece_range *ranges; /* of each tensor */
    last_ops writes, accesses;
    int64_t shared_scratch, can_fail; /* the last op that uses the one, and that does the other; -1: none */
} history;

/* No op behind it conflicts with `op`. It need not conflict itself: the columns of a matrix may interleave. */
static int64_t last_suspect(const history *history, const dlc_plan *plan, const dlc_op *op)
{
    int64_t found = op->shared_bytes > 0 ? history->shared_scratch : -1;
    if (writes_slot(plan, op))
        found = dlc_max64(found, history->can_fail);
    for (int32_t i = 0; i < op->n_out + op->n_in; i++) {
        const last_ops *last = i < op->n_out ? &history->accesses : &history->writes;
        found = dlc_max64(found, find_last(last, history->ranges[op->operands[i]]));
    }
    return found;
}

static void record_op(history *history, const dlc_op *op, int64_t index)
{
    if (op->shared_bytes > 0)
        history->shared_scratch = index;
    if (op->def->can_fail)
        history->can_fail = index;
    for (int32_t i = 0; i < op->n_out + op->n_in; i++) {
        piece_range range = history->ranges[op->operands[i]];
        enter_op(&history->accesses, range, index);
        if (i < op->n_out)
            enter_op(&history->writes, range, index);
    }
}

static void place(dlc_plan *plan, history *history)
{
    int64_t first = plan->header->n_block_ops; /* op behind the last barrier: block ops end at one */
    plan->barriers = first > 0;
    for (int64_t i = first; i < plan->header->n_ops; i++) {
        dlc_op *op = &plan->ops[i];
        for (int64_t j = last_suspect(history, plan, op); j >= first && !op->barrier_before; j--)
            op->barrier_before = conflict(plan, &plan->ops[j], op);
        if (op->barrier_before) {
            first = i;
            plan->barriers++;
        }
        record_op(history, op, i);
    }
}

static void divide(int64_t **area, last_ops *last, int64_t n_leaves)
{
    last->n_leaves = n_leaves;
    last->whole = *area;
    last->part = *area + 2 * n_leaves;
    for (int64_t i = 0; i < 4 * n_leaves; i++)
        (*area)[i] = -1;
    *area += 4 * n_leaves;
}

static int64_t *alloc_trees(history *history, int64_t n_pieces)
{
    int64_t n_leaves = 1;
    while (n_leaves < n_pieces)
        n_leaves *= 2;
    int64_t *trees = malloc((size_t)n_leaves * 8 * sizeof *trees), *next = trees;
    if (trees) {
        divide(&next, &history->writes, n_leaves);
        divide(&next, &history->accesses, n_leaves);
    }
    return trees;
}

dlc_status dlc_plan_place_barriers(dlc_plan *plan)
{
    const size_t n_tensors = (size_t)plan->header->n_tensors;
    piece_range *ranges = malloc((n_tensors + 1) * sizeof *ranges);
    edge *edges = malloc((2 * n_tensors + 1) * sizeof *edges);
    history history = {.ranges = ranges, .shared_scratch = -1, .can_fail = -1};
    int64_t *trees = ranges && edges ? alloc_trees(&history, find_ranges(ranges, edges, plan)) : NULL;
    dlc_status status = trees ? DLC_OK : dlc_fail(DLC_OUT_OF_MEMORY, "no memory to place the barriers of a plan");
    if (status == DLC_OK)
        place(plan, &history);
    free(trees);
    free(edges);
    free(ranges);
    return status;
}
