/* Products above the kernels: blocks, teams, packed operands, and what goes by other ways. */
#include "gemm/gemm.h"

#include <stdlib.h>
#include <string.h>

#include "checks.h"
#include "kernels_gemm.h"
#include "products.h"

/* A product on a team. */
typedef struct team_product {
    dlc_gemm gemm;
    char *shared, *own;
    int64_t own_bytes;
    dlc_barrier barrier;
} team_product;

static void run_member(void *context, int thread, int n_threads)
{
    team_product *p = context;
    dlc_gemm_run(&p->gemm, p->shared, p->own + thread * p->own_bytes, &p->barrier, thread, n_threads);
}

static void run_on_team(const dlc_gemm *gemm, int threads)
{
    team_product product = {.gemm = *gemm};
    int64_t shared;
    dlc_gemm_scratch(&shared, &product.own_bytes, gemm);
    product.shared = dlc_aligned_alloc(shared + DLC_ALIGNMENT);
    product.own = dlc_aligned_alloc(threads * product.own_bytes + DLC_ALIGNMENT);
    char *end = product.own + threads * product.own_bytes, *end_of_shared = product.shared + shared, untouched[DLC_ALIGNMENT];
    memset(untouched, 0x5a, sizeof untouched);
    memset(end, 0x5a, sizeof untouched);
    memset(end_of_shared, 0x5a, sizeof untouched);
    dlc_set_num_threads(threads);
    expect(dlc_team_run(threads, run_member, &product) == threads, "the team is not of %d threads", threads);
    dlc_set_num_threads(0);
    expect(memcmp(end, untouched, sizeof untouched) == 0, "what lies behind the scratch memory has changed");
    expect(memcmp(end_of_shared, untouched, sizeof untouched) == 0, "what lies behind the team's scratch memory has changed");
    free(product.shared);
    free(product.own);
}

/* The strides of a rows x cols matrix: rows or columns contiguous, or neither. */
static operand laid_out(const void *data, int64_t rows, int64_t cols, int layout)
{
    return layout == 0   ? (operand){data, cols, 1}
           : layout == 1 ? (operand){data, 1, rows}
                         : (operand){data, 2 * cols, 2};
}

/* c (m, n; contiguous) = left (m, k) @ right (k, n) */
static dlc_gemm product_of(const dlc_gemm_kernels *kernels, int32_t dtype, void *c, operand left, operand right, int64_t m,
                           int64_t n, int64_t k)
{
    return (dlc_gemm){.kernels = kernels,
                      .element_size = size_of(dtype),
                      .c = c,
                      .a = left.data,
                      .b = right.data,
                      .m = m,
                      .n = n,
                      .k = k,
                      .c_row = n,
                      .a_row = left.row,
                      .a_col = left.col,
                      .b_row = right.row,
                      .b_col = right.col};
}

/* The sums of b beside a product change nothing of it, and are the same for every team. They start as the first elements of c. */
static void test_product_with_sums(const dlc_gemm *gemm, int32_t dtype, const void *start, int threads, const void *expected,
                                   void *sums, const void *of_one)
{
    dlc_gemm both = *gemm;
    both.b_sums = sums;
    both.c = memcpy(place(BESIDE, dtype, gemm->m * gemm->n, EDGE_BEHIND), start,
                    (size_t)(gemm->m * gemm->n * size_of(dtype)));
    memcpy(sums, start, (size_t)(gemm->n * size_of(dtype)));
    run_on_team(&both, threads);
    expect_same_bits(dtype, both.c, expected, gemm->m * gemm->n);
    if (threads == 1)
        expect_column_sums(dtype, sums, gemm->b, gemm->b_row, gemm->b_col, gemm->k, gemm->n,
                           gemm->accumulate ? start : NULL);
    else
        expect_same_bits(dtype, sums, of_one, gemm->n);
    expect_intact();
}

/* A small product has the same bits where nothing is prepared for it. */
static void test_small_product(const dlc_gemm *gemm, int32_t dtype, const void *start, const void *expected, void *sums,
                               const void *expected_sums)
{
    dlc_gemm small = *gemm;
    small.b_sums = sums;
    small.c = memcpy(place(BESIDE, dtype, gemm->m * gemm->n, EDGE_BEHIND), start,
                     (size_t)(gemm->m * gemm->n * size_of(dtype)));
    memcpy(sums, start, (size_t)(gemm->n * size_of(dtype)));
    dlc_gemm_run_small(&small);
    expect_same_bits(dtype, small.c, expected, gemm->m * gemm->n);
    expect_same_bits(dtype, sums, expected_sums, gemm->n);
    expect_intact();
}

/* From this depth on the team may cut k (DEEP_K of csrc/gemm/gemm.c). */
#define CUT_K 6144

/* The product with a b that is packed ahead, by as many threads, is the product that packs: bit by bit where k is not cut. */
static void test_product_with_packed_b(const dlc_gemm *gemm, int32_t dtype, const operand *left, const operand *right,
                                       const void *start, int threads, const void *expected)
{
    const int64_t of_c = gemm->m * gemm->n;
    int64_t size = 0;
    dlc_gemm ahead = *gemm;
    expect(dlc_gemm_packed_size(&size, gemm), "packed columns cannot be counted");
    void *packed = place(PACKED, dtype, size, EDGE_BEHIND);
    dlc_gemm other_rows = *gemm;
    other_rows.m += 7;
    for (int thread = 0; thread < threads; thread++)
        dlc_gemm_pack_b(packed, &other_rows, thread, threads);
    ahead.packed_b = packed;
    ahead.c = memcpy(place(BESIDE, dtype, of_c, EDGE_BEHIND), start, (size_t)(of_c * size_of(dtype)));
    run_on_team(&ahead, threads);
    if (gemm->k < CUT_K)
        expect_same_bits(dtype, ahead.c, expected, of_c);
    else
        expect_product(dtype, (operand){ahead.c, gemm->n, 1}, *left, *right, gemm->m, gemm->n, gemm->k,
                       gemm->accumulate ? start : NULL);
    expect_intact();
}

static void test_product_of(const dlc_gemm_kernels *kernels, int32_t dtype, const int64_t size[3], int layout_a,
                            int layout_b, bool accumulate)
{
    const int64_t m = size[0], n = size[1], k = size[2], of_c = m * n;
    void *a = place(A, dtype, 2 * m * k, EDGE_BEHIND), *b = place(B, dtype, 2 * k * n, EDGE_BEHIND);
    fill_uniform(dtype, a, 2 * m * k, -1, 1);
    fill_uniform(dtype, b, 2 * k * n, -1, 1);
    if (kernels->packs_pairs) {
        round_all_to_bfloat16(a, 2 * m * k);
        round_all_to_bfloat16(b, 2 * k * n);
    }
    void *start = place(START, dtype, of_c, EDGE_BEHIND);
    fill_uniform(dtype, start, of_c, -1, 1);
    const operand left = laid_out(a, m, k, layout_a), right = laid_out(b, k, n, layout_b);
    void *results[2] = {place(C, dtype, of_c, EDGE_BEHIND), place(SECOND, dtype, of_c, EDGE_BEHIND)};
    void *sums[2] = {place(SUMS, dtype, n, EDGE_BEHIND), place(SECOND_SUMS, dtype, n, EDGE_BEHIND)};
    for (int threads = 1; threads <= 3; threads++) {
        void *c = results[threads > 1];
        memcpy(c, start, (size_t)(of_c * size_of(dtype)));
        describe("product %lld x %lld x %lld, layouts %d and %d, accumulate %d, %d threads, %s", (long long)m,
                 (long long)n, (long long)k, layout_a, layout_b, accumulate, threads, name_of(kernels, dtype));
        dlc_gemm gemm = product_of(kernels, dtype, c, left, right, m, n, k);
        gemm.accumulate = accumulate;
        gemm.is_one_row = m == 1;
        run_on_team(&gemm, threads);
        if (threads == 1)
            expect_product(dtype, (operand){c, n, 1}, left, right, m, n, k, accumulate ? start : NULL);
        else
            expect_same_bits(dtype, c, results[0], of_c);
        expect_intact();
        const bool has_few_rows = m > 1 && m <= kernels->few; /* which may gain where there are more rows at other times */
        if (kernels->packs_pairs || has_few_rows || dlc_gemm_gains_by_packed_b(&gemm))
            test_product_with_packed_b(&gemm, dtype, &left, &right, start, threads, c);
        if (!kernels->packs_pairs)
            test_product_with_sums(&gemm, dtype, start, threads, c, sums[threads > 1], sums[0]);
        if (threads == 1 && dlc_gemm_is_small(&gemm))
            test_small_product(&gemm, dtype, start, c, sums[1], sums[0]);
    }
}

/* All tiles of a panel take a part of it before any takes more: parts of unequal depth, in several blocks of k and of rows. */
void test_parts_of_panels(const dlc_gemm_kernels *kernels)
{
    dlc_gemm_kernels in_parts = *kernels;
    in_parts.part_depth = 2 * kernels->pairs_multiple;
    const int64_t deep = 5 * 2 * kernels->pairs_multiple; /* parts of 2, 2 and 1 times the pairs */
    test_product_of(&in_parts, DLC_FLOAT32, (const int64_t[]){kernels->mr + 3, kernels->nr + 5, deep}, 0, 0, false);
    test_product_of(&in_parts, DLC_FLOAT32, (const int64_t[]){kernels->mr + 3, kernels->nr + 5, deep - 1}, 1, 1, true);
    test_product_of(&in_parts, DLC_FLOAT32, (const int64_t[]){kernels->mc + 3, 5, kernels->kc + 75}, 0, 0, true);
}

/* x^T x is computed whole where b is packed ahead: panels are as wide as they were packed. */
void test_gram_with_packed_b(const dlc_gemm_kernels *kernels)
{
    enum { N = 100, K = 80 };
    float *x = place(A, DLC_FLOAT32, N * K, EDGE_BEHIND), *c = place(C, DLC_FLOAT32, N * N, EDGE_BEHIND);
    fill_uniform(DLC_FLOAT32, x, N * K, -1, 1);
    round_all_to_bfloat16(x, N * K);
    const operand left = {x, 1, N}, right = {x, N, 1};
    const dlc_gemm gemm = product_of(kernels, DLC_FLOAT32, c, left, right, N, N, K);
    float *start = place(START, DLC_FLOAT32, N * N, EDGE_BEHIND);
    fill_uniform(DLC_FLOAT32, start, N * N, -1, 1);
    describe("Gram matrix of a packed b");
    run_on_team(&gemm, 1);
    expect_product(DLC_FLOAT32, (operand){c, N, 1}, left, right, N, N, K, NULL);
    for (int threads = 1; threads <= 3; threads++)
        test_product_with_packed_b(&gemm, DLC_FLOAT32, &left, &right, start, threads, c);
}

/* Odd sizes, sizes past each block, no depth at all, and depths that are cut for a team. */
void test_products(const dlc_gemm_kernels *kernels, int32_t dtype)
{
    const int64_t sizes[][3] = {
        {1, 1, 1},   {3, 5, 0},   {7, 9, 11},  {17, 33, 5},  {37, 45, 29}, {1, 33, 65},  {33, 1, 65},  {1, 1, 500},
        {5, 2, 700}, {3, 70, 12}, {70, 3, 12}, {9, 140, 70}, {3, 4, 6200}, {1, 3, 6151}, {2, 1, 6151},
        {3, 2, 1},   {2, 17, 1},  {5, 20, 90},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int layouts = 0; layouts < 9; layouts++)
            test_product_of(kernels, dtype, sizes[i], layouts % 3, layouts / 3, (i + (size_t)layouts) % 2);
    test_product_of(kernels, dtype, (const int64_t[]){2 * kernels->mr + 1, 3, kernels->kc + 1}, 0, 0, true);
    test_product_of(kernels, dtype, (const int64_t[]){kernels->mc + 1, 3, 3}, 0, 1, false);
    test_product_of(kernels, dtype, (const int64_t[]){kernels->mc + 1, 5, kernels->kc + 3}, 0, 0, false);
    test_product_of(kernels, dtype, (const int64_t[]){kernels->mr + 1, 1100, 2}, 1, 0, false);
    /* columns beyond whole vectors, as few as go by dots or are turned into rows: in small products, in blocks of rows, of k and of
     * columns, and alone */
    const int64_t few[][3] = {{40, 65, 60},    {80, 72, 80}, {80, 68, 80}, {67, 67, 100}, {70, 1026, 80},
                              {kernels->mc + 20, 2, 90}, {kernels->mc + 40, 34, kernels->kc + 60}};
    for (size_t i = 0; i < sizeof few / sizeof few[0]; i++)
        for (int layouts = 0; layouts < 9; layouts++)
            test_product_of(kernels, dtype, few[i], layouts % 3, layouts / 3, (i + (size_t)layouts) % 2);
    /* all widths up to two panels, in what is small and what is not */
    for (int64_t n = 1; n <= 2 * kernels->nr + 1; n++)
        for (int layout_a = 0; layout_a < 2; layout_a++) {
            test_product_of(kernels, dtype, (const int64_t[]){80, n, 80}, layout_a, (int)(n % 3), n % 2);
            test_product_of(kernels, dtype, (const int64_t[]){33, n, 81}, layout_a, (int)(n % 3), n % 2);
        }
    /* the rows of b whole pages apart, and in several blocks */
    test_product_of(kernels, dtype, (const int64_t[]){kernels->mr + 1, 4096 / size_of(dtype), 300}, 0, 0, false);
    /* few rows and a large b, which is read row by row: of little else the scratch memory, or of blocks of k */
    test_product_of(kernels, dtype, (const int64_t[]){4, 20000, 5}, 0, 0, false);
    test_product_of(kernels, dtype, (const int64_t[]){4, 20000, 5}, 1, 0, true);
    test_product_of(kernels, dtype, (const int64_t[]){3, 4096 / size_of(dtype), 300}, 0, 0, true);
    /* a row and a large b, whose k is cut in parts where its rows are contiguous */
    for (int layout_b = 0; layout_b < 3; layout_b++)
        test_product_of(kernels, dtype, (const int64_t[]){1, 2120 / size_of(dtype), 520}, layout_b % 2, layout_b, layout_b != 1);
    test_product_of(kernels, dtype, (const int64_t[]){1, 240 / size_of(dtype), 5000}, 2, 0, false);
    const int64_t kept = kernels->panels * kernels->nr; /* columns of b, for more than one block of rows */
    test_product_of(kernels, dtype, (const int64_t[]){kernels->mc + 9, kept + 5, 3}, 0, 1, true);
}
