/* Runs of map programs over arrays of any layout, in scratch memory of the size that they ask for, with a page without access
 * behind it. */
#include <stdlib.h>

#include "arrays.h"
#include "checks.h"
#include "core/sizes.h"
#include "kernels.h"
#include "map/map.h"

enum { SUM, DIFFERENCE, LEFT, RIGHT, SHARED, OWN, NDIM = 4 };

typedef struct space {
    int32_t ndim;
    int64_t shape[NDIM];
    bool reduced[NDIM];
} space;

static int64_t below(int64_t n) { return (int64_t)(next_bits() >> 33) % n; }

/* Any axes, but few elements: blocks and strips in several rows and columns, whole and in part */
static space any_space(void)
{
    static const int64_t extents[] = {1, 2, 5, 15, 16, 17, 40, 70, 300, 530, 1100};
    space s = {.ndim = 1 + (int32_t)below(NDIM)};
    int64_t elements = 1;
    for (int32_t axis = 0; axis < s.ndim; axis++) {
        do
            s.shape[axis] = extents[below(sizeof extents / sizeof extents[0])];
        while (elements * s.shape[axis] > 40000);
        elements *= s.shape[axis];
        s.reduced[axis] = below(2) == 0;
    }
    return s;
}

/* An array over the axes that `has` names, which lie in memory in any order, some with a gap or backwards */
static dlc_array any_array(int room, int32_t dtype, const space *s, const bool *has)
{
    int32_t order[NDIM];
    for (int32_t i = 0; i < s->ndim; i++) {
        const int32_t j = (int32_t)below(i + 1);
        order[i] = order[j];
        order[j] = i;
    }
    dlc_array array = {.dtype = dtype, .ndim = s->ndim};
    const int64_t with_gap = below(2 * s->ndim);
    int64_t span = 1, first = 0;
    for (int32_t i = 0; i < s->ndim; i++) {
        const int32_t axis = order[i];
        array.shape[axis] = has[axis] ? s->shape[axis] : 1;
        array.stride[axis] = span;
        span *= array.shape[axis] + (axis == with_gap ? 3 : 0);
        if (below(8) == 0) {
            first += array.stride[axis] * (array.shape[axis] - 1);
            array.stride[axis] = -array.stride[axis];
        }
    }
    char *data = place(room, dtype, span, EDGE_BEHIND);
    fill_integers(dtype, data, span, 9);
    array.data = data + first * size_of(dtype);
    return array;
}

static int64_t offset_of(const dlc_array *array, const int64_t *index)
{
    int64_t offset = 0;
    for (int32_t axis = 0; axis < array->ndim; axis++)
        offset += array->shape[axis] == 1 ? 0 : index[axis] * array->stride[axis];
    return offset;
}

static double element(const dlc_array *array, const int64_t *index)
{
    return get(array->dtype, array->data, offset_of(array, index));
}

/* The next index of `axes`, the last one fastest; false after the last one. */
static bool advance(int64_t *index, const space *s, const bool *axes)
{
    for (int32_t axis = s->ndim - 1; axis >= 0; axis--) {
        if (!axes[axis])
            continue;
        if (++index[axis] < s->shape[axis])
            return true;
        index[axis] = 0;
    }
    return false;
}

/* Sums over the axes that are reduced of left + right, or itself where there is none; small integers are exact in any order. */
static void expect_sums(const space *s, const dlc_array *arrays)
{
    bool kept[NDIM];
    int64_t index[NDIM] = {0};
    for (int32_t axis = 0; axis < s->ndim; axis++)
        kept[axis] = !s->reduced[axis];
    do {
        double expected = 0;
        do
            expected += element(&arrays[LEFT], index) + element(&arrays[RIGHT], index);
        while (advance(index, s, s->reduced));
        if (!expect(element(&arrays[SUM], index) == expected, "a sum is %g, not %g", element(&arrays[SUM], index), expected))
            return;
    } while (advance(index, s, kept));
}

static void expect_differences(const space *s, const dlc_array *arrays)
{
    const bool all[NDIM] = {true, true, true, true};
    int64_t index[NDIM] = {0};
    do {
        const double expected = element(&arrays[LEFT], index) - element(&arrays[RIGHT], index);
        if (!expect(element(&arrays[DIFFERENCE], index) == expected, "a difference is %g, not %g",
                    element(&arrays[DIFFERENCE], index), expected))
            return;
    } while (advance(index, s, all));
}

static void *scratch_of(int room, int64_t bytes) { return place(room, DLC_UINT8, dlc_align_up(bytes), EDGE_BEHIND); }

static void test_walk(const dlc_real_kernels *kernels, int32_t dtype)
{
    const bool all[NDIM] = {true, true, true, true};
    space s = any_space();
    const bool reduces = below(2) == 0;
    bool kept[NDIM], has_left[NDIM], has_right[NDIM];
    for (int32_t axis = 0; axis < s.ndim; axis++) {
        s.reduced[axis] = s.reduced[axis] && reduces;
        kept[axis] = !s.reduced[axis];
        has_left[axis] = below(4) > 0;
        has_right[axis] = !has_left[axis] || below(4) > 0;
    }
    const dlc_array arrays[] = {any_array(SUM, dtype, &s, kept), any_array(DIFFERENCE, dtype, &s, all),
                                any_array(LEFT, dtype, &s, has_left), any_array(RIGHT, dtype, &s, has_right)};
    dlc_map_program program;
    dlc_map_program_init(&program, dtype, 2, 2, reduces ? DLC_REDUCE_SUM : DLC_REDUCE_NONE);
    program.n_reduced = reduces;
    dlc_map_emit(&program, DLC_MAP_ADD, SUM, LEFT, RIGHT, LEFT);
    dlc_map_emit(&program, DLC_MAP_SUBTRACT, DIFFERENCE, LEFT, RIGHT, LEFT);
    describe("a walk over %lld x %lld x %lld x %lld, %s, float%d", (long long)s.shape[0], (long long)s.shape[1],
             (long long)s.shape[2], (long long)s.shape[3], reduces ? "sums" : "no sums", dtype == DLC_FLOAT32 ? 32 : 64);
    int64_t shared, own;
    dlc_map_scratch(&shared, &own, &program, arrays, s.shape, s.ndim);
    dlc_barrier barrier = {0};
    dlc_map_run(&program, kernels, arrays, s.shape, s.ndim, (dlc_map_rows){1, 1, false}, scratch_of(SHARED, shared),
                scratch_of(OWN, own), &barrier, 0, 1);
    expect_sums(&s, arrays);
    expect_differences(&s, arrays);
    expect_intact();
}

/* Where no operand is transposed, there is no room for strips, whatever is broadcast. */
static void test_scratch_for_strips(int32_t dtype)
{
    enum { ROWS = 300, COLS = 500, REGISTERS = 3 };
    const int64_t shape[2] = {ROWS, COLS}, block = DLC_MAP_BLOCK_BYTES;
    char memory[1];
    const dlc_array whole = matrix_of(dtype, memory, ROWS, COLS, COLS, 1), bias = matrix_of(dtype, memory, 1, COLS, COLS, 1);
    const dlc_array numbers = matrix_of(dtype, memory, ROWS, 1, 1, 1), turned = matrix_of(dtype, memory, ROWS, COLS, 1, ROWS);
    const dlc_array *others[] = {&whole, &bias, &numbers, &turned};
    dlc_map_program program;
    dlc_map_program_init(&program, dtype, 1, 2, DLC_REDUCE_NONE);
    dlc_map_emit(&program, DLC_MAP_ADD, 0, 1, 2, 1);
    for (int i = 0; i < 4; i++) {
        const dlc_array arrays[] = {whole, whole, *others[i]};
        int64_t shared, own;
        describe("scratch of a sum with operand %d, float%d", i, dtype == DLC_FLOAT32 ? 32 : 64);
        dlc_map_scratch(&shared, &own, &program, arrays, shape, 2);
        expect((own == REGISTERS * block) == (others[i] != &turned), "it is %lld bytes", (long long)own);
    }
}

void test_map_walks(const dlc_real_kernels *kernels, int32_t dtype, int64_t walks)
{
    test_scratch_for_strips(dtype);
    for (int64_t i = 0; i < walks; i++)
        test_walk(kernels, dtype);
}
