/* What products are made of, and their split over threads. What decides the order of summation (the paths, where k is cut)
 * depends on shapes, strides, dtype and ISA only. How c is cut and what is packed may depend on the number of threads:
 * kernels give an element of c the same value in every tile. */
#include <math.h>

#include "gemm/product.h"

/* A small c with a deep k (a Gram matrix of many rows) has too few tiles for a team: k is cut in DEEP_PARTS parts, divisible
 * among 2, 3, 4, 6, 8, 12 and 24 threads, whose products are added up in order. From DEEP_K on a part is no shorter
 * than 256, so that adding up costs under 1%. DEEP_C bounds the scratch; larger c have tiles enough. */
#define DEEP_PARTS 24
#define DEEP_K (DEEP_PARTS * 256)
#define DEEP_C 8192

/* The k of a row times a matrix of more than ROW_BYTES is cut, too: a thread's columns alone are short pieces of rows, of which
 * the caches do not fetch ahead, and where rows lie whole pages apart they fall into half of the sets of L2. A team makes groups
 * that have parts of their own. (Zen 5, two builds in turns: 1000 x 1000 takes two threads 0.70 to 0.87 of the time, 1024 x 1024
 * 0.75 to 0.93, 512 x 1024 0.81 to 0.9, 2048 x 2048 0.81, float64 1024 x 1024 as long; one thread 1.0 to 1.04. Two parts take two
 * threads 1.0 to 1.36 times as long as four, twelve take one 1.01 to 1.1 of its time.) */
#define ROW_PARTS 4
#define ROW_K 512
#define ROW_BYTES (1 << 20)

/* A tile reads a as fast in place as packed, as long as a stride is 1: up to this many columns packing only costs time (4% at
 * 256^3, nothing at 512^3, half of it at 10 columns); beyond, it brings distant rows together (10% at 1024^3). */
#define PACK_A_COLS 512

/* Rows a multiple of so many bytes apart share one set of L1, which has 8 or 12 lines; an AVX-512 tile reads 14 rows. From the
 * second panel of columns on, to read them in place took 1.1 to 1.2 times as long as to pack them (256 x 1024 times 64 to
 * 256 columns, float64 512^3). */
#define L1_SET_BYTES 4096 /* as in graph/lower.py */
#define L1_WAYS 8

/* The depth of blocks of an a that is read in place across its rows: of each of its lines a tile uses a part, and the next
 * tile the next one, if the line is still in L1 (5000 x 50 transposed times itself: 128 takes 0.87 of the time of 384). 160
 * cuts less often what is a little deeper than 128: on Zen 5 784 x 150 x 256 takes 0.98 of the time, 801 x 133 x 231 0.96, float64
 * 0.95, others 0.97 to 1.01, with AVX2 50 x 5000 x 50 1.03; 192 is level. */
#define STRIDED_A_DEPTH 160

/* The depth of blocks of a b whose rows lie whole pages apart. These share few sets of L2, too, where the processor keeps what it
 * fetches beside a panel for the next one. (Intel Xeon, float32, one thread, builds in turns, with rows fetched 8 ahead of packing
 * instead of 16: 16 x 1024 x 1024 takes 0.67 of the time, 32 rows 0.7, 64 0.76, 128 0.86, 256 0.93, 1024 and 4096 0.98 to 1.01.
 * With blocks of 352 it is 0.77 for 16 and 32 rows; 192 gains 1 to 2% more up to 64 rows and costs 2 to 3% from 1024 on. The
 * depth alone: 2 to 14 rows, which pack nothing, 0.9 to 0.99; depths of 300 to 500, 0.86 to 1.0; 32 of the 1024 columns, 0.84 for
 * 32 rows, 1.0 for 128 and 1.09 for 1024. AVX2: 0.93 to 1.0.) */
#define COLLIDING_B_DEPTH 256

/* From this depth on the products of a symmetric result that are left out take longer than to copy them. */
#define SYMMETRIC_K 64

/* A b beyond so many bytes is not at hand: it comes from L3, and of weights that a team updates half from another core. */
#define LARGE_B (256 << 10)

static bool is_b_beyond(const dlc_gemm *g, int64_t bytes)
{
    return dlc_cost_mul(dlc_cost_mul(g->k, g->n), g->element_size) > bytes;
}

static bool has_large_b(const dlc_gemm *g) { return is_b_beyond(g, LARGE_B); }

/* Whether k is cut in parts for a row, where b has contiguous rows */
static bool is_long_row(const dlc_gemm *g)
{
    return g->is_one_row && g->k >= ROW_K && is_b_beyond(g, ROW_BYTES) && !g->kernels->packs_pairs;
}

/* In how many parts k is cut, whose products are added up */
static int parts_of_k(const dlc_gemm *g)
{
    if (g->packed_b || g->m > DEEP_C || g->n > DEEP_C || g->m * g->n > DEEP_C)
        return 1;
    if (g->k >= DEEP_K)
        return DEEP_PARTS;
    return is_long_row(g) && g->b_col == 1 ? ROW_PARTS : 1;
}

/* The last columns may fill less than a vector, of which tiles compute all lanes. Few are faster by dots along k, or, where
 * columns of a are contiguous and a tile has as many rows, turned into rows, whose tiles have vectors of rows of c. To add up
 * the lanes of a dot product takes as long as two vectors of k, to turn an element as long as one; under LEAST_COLUMNS there
 * are not enough sums to hide latencies. Tiles of two vectors spend 3/4 as much on the second, and of a vector alone 5/4. m
 * takes no part, but where c is square and b lies as a transposed. (Zen 5, one thread, in turns with a build that computes all
 * by tiles; by dots: 64^3 with 65 columns takes 0.83 of the time, 128 x 64 x 40 0.84, 128 x 64 x 42 0.98, 128 x 256 x 44 0.93,
 * float64 128 x 64 x 20 0.79, 128 x 256 x 22 0.93; turned: 64 x 112 x 100 0.87, x 108 0.95, 256 x 128 x 10 0.58, 128 x 128 x 14
 * 0.75, 32 x 32 x 2 0.35, float64 64 x 64 x 6 0.64, x 23 0.94.) */
enum { LEAST_COLUMNS = 2 };

static int64_t beyond_vectors(const dlc_gemm *g) { return g->n & (g->kernels->lanes - 1); }

/* Whether they are those of a tile with another vector before them */
static bool is_in_wide_tile(const dlc_gemm *g) { return (g->n & (g->kernels->nr - 1)) > g->kernels->lanes; }

static bool last_columns_are_few(const dlc_gemm *g)
{
    const int64_t lanes = g->kernels->lanes, last = beyond_vectors(g);
    const bool dotted = g->a_col == 1;
    if (last == 0 || (!dotted && last > g->kernels->mr) || g->kernels->packs_pairs)
        return false;
    const int64_t depth = dotted ? dlc_cost_add(round_up(g->k, lanes), 2 * lanes) : dlc_cost_add(g->k, lanes);
    const int64_t spent = dlc_cost_mul(dlc_max64(last, LEAST_COLUMNS), depth);
    const int64_t quarters = is_in_wide_tile(g) ? 3 : g->n < lanes ? 5 : 4;
    return dlc_cost_mul(4, spent) < dlc_cost_mul(quarters * lanes, g->k);
}

/* Whether tiles along k, which add up their lanes at the end, are faster than tiles along the columns of c, whose vectors a
 * narrow c does not fill. By multiply-adds of vectors, measured on Zen 5 with 128 rows: dot products take 1.1 times theirs and
 * two more, tiles of one vector 1.3 times theirs, of two 1.05. (Builds in turns: 128 x 64 x 8 takes 0.61 of the time by dots,
 * 128 x 256 x 13 0.83, 4 x 128 x 13 0.71, float64 128 x 256 x 10 0.82.) m takes no part: a row of c is the same whatever other
 * rows there are. Of more columns than a vector of 16 has, where those beyond it are few, the others go by tiles up to a k of
 * MOST_TILED_K (64 x 100 x 18 takes 0.84 of the time, 256 x 256 x 20 0.95). */
#define MOST_TILED_K 512

/* Of one full vector, tiles of 6 rows wait for their own sums: AVX2 takes 0.8 to 0.98 of the time by dots (4 to 1024 x 256 x 8,
 * float64 x 4), SSE 0.73 to 1.16. Tiles of 14 rows do not (1.06 to 1.25), and two lanes are soon added up either way (0.9 to
 * 1.45). A b that lies along k is another matter, as tiles would have to transpose it: 32 x 256 x 16 takes 0.89 of the time by
 * dots, 16 x 256 x 16 0.75, 128 x 256 x 16 0.99, 32 x 512 x 16 0.83, float64 32 x 256 x 8 0.81 and 32 x 128 x 8 0.78 (Zen 5,
 * AVX-512; AVX2 is level). */
static bool gains_with_full_vector(const dlc_gemm_kernels *kernels) { return kernels->mr <= 6 && kernels->lanes >= 4; }

static bool dots_of_few_columns_are_faster(const dlc_gemm *g)
{
    const int64_t lanes = g->kernels->lanes, vectors = dlc_ceil_div(g->k, lanes);
    if (g->n >= g->kernels->nr || g->a_col != 1 || (g->b_row != 1 && g->b_col != 1))
        return false;
    if (g->n == lanes && g->b_row != 1 && !gains_with_full_vector(g->kernels))
        return false;
    if (lanes > 8 && g->n > lanes && g->k <= MOST_TILED_K && last_columns_are_few(g))
        return false;
    const double by_dots = (double)g->n * (1.1 * (double)vectors + 2);
    return by_dots < (g->n > lanes ? 2.1 : 1.3) * (double)g->k;
}

/* Where neither a nor b has elements next to each other that tiles along the columns of c could use, all of b would be
 * transposed. Dot products read it as it is, and only a is transposed; to add them up takes the time that the transposition of
 * b would from about 10 rows for 100 of k on (1.6 times as fast for m, k, n of 4, 256, 32, level for 10, 128, 32, and 0.76 for
 * 10, 32, 32). n takes no part. */
static bool dots_of_few_rows_are_faster(const dlc_gemm *g)
{
    return g->a_row == 1 && g->a_col != 1 && g->b_row == 1 && g->b_col != 1 && g->m < g->kernels->nr &&
           10 * round_up(g->m, 2) < g->k;
}

/* In a product with a vector every element of the matrix is used once, and nothing is worth packing. Every path sums in an order of
 * its own. Blocks alone give out a c that exists only as such. */
static path choose_path(const dlc_gemm *g)
{
    if (g->kernels->packs_pairs || g->is_transient)
        return GENERAL;
    if (g->n == 1 && (g->a_col == 1 || (g->a_row == 1 && g->c_row == 1)))
        return MATRIX_TIMES_VECTOR;
    if (g->m == 1 && (g->b_col == 1 || g->b_row == 1))
        return VECTOR_TIMES_MATRIX;
    if (dots_of_few_columns_are_faster(g))
        return DOTS_OF_FEW_COLUMNS;
    return dots_of_few_rows_are_faster(g) ? DOTS_OF_FEW_ROWS : GENERAL;
}

/* Whether a lies as b transposed does: where they are one, the product has the bits that it has of a copy. */
static bool may_be_symmetric(const dlc_gemm *g) { return g->m == g->n && g->a_row == g->b_col && g->a_col == g->b_row; }

/* Whether a is b transposed, as in a Gram matrix, and large enough for the half that is saved to be worth its copy. */
static bool is_symmetric(const dlc_gemm *g)
{
    return !g->packed_b && g->a == g->b && may_be_symmetric(g) && !g->accumulate &&
           !g->finish && !g->b_sums && g->m > g->kernels->nr && g->k >= SYMMETRIC_K;
}

/* Whether rows so many elements apart share one set of L1. */
static bool rows_collide(const dlc_gemm *g, int64_t apart)
{
    return apart != 0 && apart * g->element_size % L1_SET_BYTES == 0;
}

static int64_t dotted_columns(const dlc_gemm *g)
{
    const bool can_dot = g->a_col == 1 && g->n > g->kernels->lanes && !may_be_symmetric(g);
    return can_dot && last_columns_are_few(g) ? beyond_vectors(g) : 0;
}

/* The rows of a tile that turns columns: a vector, or where a deep a and b come from memory, two. While such a tile waits for its
 * own sums, nothing is fetched (20 x 300000 x 100 by tiles of a vector takes 1.07 of the time). */
static int64_t least_rows_to_turn(const dlc_gemm *g) { return g->k < DEEP_K ? g->kernels->lanes : g->kernels->nr; }

int64_t dlc_gemm_last_columns(const dlc_gemm *g, const scheme *scheme, int64_t least_rows)
{
    if (beyond_vectors(g) == 0 || scheme->is_symmetric)
        return 0;
    if (g->a_col == 1)
        return scheme->dotted;
    /* beside another vector nothing is gained */
    const bool can_turn = g->a_row == 1 && least_rows >= scheme->least_turned && !is_in_wide_tile(g);
    return can_turn && last_columns_are_few(g) ? beyond_vectors(g) : 0;
}

/* Whether the rows of a that a tile reads push each other out of L1. */
static bool rows_of_a_collide(const dlc_gemm *g)
{
    return rows_collide(g, g->a_row) && g->kernels->mr > L1_WAYS && g->n > g->kernels->nr;
}

/* The most rows of b in a block of k: of a transient c all, as its depth is not cut. The same product where c is kept may be cut,
 * and differ in its last bits. */
static int64_t most_depth_of_b(const dlc_gemm *g)
{
    const bool is_straight = g->b_col == 1 && !g->kernels->packs_pairs;
    return is_straight && !g->is_transient && rows_collide(g, g->b_row) ? COLLIDING_B_DEPTH : INT64_MAX;
}

scheme dlc_gemm_choose_scheme(const dlc_gemm *g)
{
    const bool pack_a = g->kernels->packs_pairs || g->n > PACK_A_COLS || (g->a_row != 1 && g->a_col != 1) ||
                        (g->is_transient && g->k > STRIDED_A_DEPTH) || rows_of_a_collide(g);
    const bool is_strided = !pack_a && g->a_col != 1;
    return (scheme){
        .path = choose_path(g),
        .pack_a = pack_a,
        .is_symmetric = is_symmetric(g),
        .most_depth = dlc_min64(dlc_min64(g->kernels->kc, is_strided ? STRIDED_A_DEPTH : INT64_MAX), most_depth_of_b(g)),
        .dotted = dotted_columns(g),
        .least_turned = least_rows_to_turn(g),
    };
}

bool dlc_gemm_may_be_transient(const dlc_gemm *g)
{
    return choose_path(g) == GENERAL && parts_of_k(g) == 1 && g->k <= g->kernels->kc;
}

/* Few rows wait for b, and get it sooner row by row, as the caches fetch ahead, than by panels of columns, packed or not. (Of 4000
 * x 32, where a panel is all of b, 2 and 4 rows take 1.2 times as long by it, of 4000 x 64 0.8 and 0.95 of the time: Zen 5.) */
static bool are_few_rows_faster(const dlc_gemm *g)
{
    return g->m > 1 && g->m <= g->kernels->few && g->n > g->kernels->nr && g->b_col == 1 && !g->kernels->packs_pairs &&
           has_large_b(g);
}

/* Whether a small product takes about as long with a packed b: it reads b in place, or packs few panels. (With b in place and
 * not packed, predictions of 64-100-200-10 for 2 to 200 rows take 0.85 to 0.97 of the time, by tiles that begin their store.) */
static bool packs_little(const dlc_gemm *g)
{
    enum { LITTLE = 80 * 80 };
    return g->b_col == 1 || g->k * g->n <= LITTLE;
}

/* Where k may be cut in parts, it would not be with a packed b. */
bool dlc_gemm_gains_by_packed_b(const dlc_gemm *g)
{
    return choose_path(g) == GENERAL && g->k > 0 && g->k < DEEP_K && !(dlc_gemm_is_small(g) && packs_little(g)) &&
           !are_few_rows_faster(g);
}

/* What needs no blocks and no packing of whole operands, and would spend its time on them and a job's beginning: 8^3 two thirds
 * of it, 64^3 4%, 128^3 2%, 256^3 1% (Zen 5; AVX2 0 to 1.5% from 100 rows on). k is not cut here, and so no deeper than where
 * others do not cut it: a block (kc), rows of a that lie across it, and rows of b that collide, which are not near. In networks
 * tiles of small products begin the program of a store, too (dlc_gemm_store): with layers of up to 256 columns instead of 80,
 * 64-100-10 in batches of 200 takes 0.91 of the time, 784-100-10 and 32-200-200-10 in batches of 128 0.97. */
enum { SMALL_ROWS = 256, SMALL_K = 256, SMALL_VECTOR_K = 80 };
_Static_assert(SMALL_ROWS <= SMALL_K && SMALL_K % (DLC_GEMM_MAX_NR_BYTES / 8) == 0, "the last columns have room in a panel, too");

static bool is_small(const dlc_gemm *g)
{
    const int64_t most_depth = g->a_col == 1 ? dlc_min64(SMALL_K, g->kernels->kc) : STRIDED_A_DEPTH;
    return g->m <= SMALL_ROWS && g->k <= most_depth && g->n <= PACK_A_COLS && (g->a_row == 1 || g->a_col == 1) &&
           !rows_of_a_collide(g) && !g->kernels->packs_pairs && (g->b_col != 1 || has_near_rows(g));
}

static bool is_small_by_dots(const dlc_gemm *g, path path)
{
    if (path == DOTS_OF_FEW_ROWS) /* which are under two vectors */
        return g->n <= PACK_A_COLS && g->k <= SMALL_K;
    return g->m <= SMALL_ROWS && g->k <= (g->b_row == 1 ? g->kernels->kc : SMALL_K);
}

/* Where the vector is read as it lies. One row of 10-32-2 takes 0.83 of the time by it, as its products are bound. */
static bool is_small_by_vector(const dlc_gemm *g, path path)
{
    const bool is_in_place = path == MATRIX_TIMES_VECTOR ? g->b_row == 1 : g->b_col == 1 || g->a_col == 1;
    return is_in_place && g->k <= SMALL_VECTOR_K && g->m <= PACK_A_COLS && g->n <= PACK_A_COLS;
}

bool dlc_gemm_is_small(const dlc_gemm *g)
{
    const path path = choose_path(g);
    if (is_by_vector(path))
        return is_small_by_vector(g, path);
    return is_by_dots(path) ? is_small_by_dots(g, path) : path == GENERAL && is_small(g);
}

/* The columns that tiles of a small product compute; others are the last. */
static int64_t columns_of_tiles(const dlc_gemm *g)
{
    const scheme scheme = {.dotted = dotted_columns(g), .least_turned = least_rows_to_turn(g)};
    return g->n - dlc_gemm_last_columns(g, &scheme, g->m);
}

static bool is_bias(dlc_gemm_store store) { return store == DLC_STORE_BIAS || store == DLC_STORE_RECTIFIED_BIAS; }

bool dlc_gemm_takes_store(const dlc_gemm *g, dlc_gemm_store store)
{
    if (choose_path(g) != GENERAL || g->accumulate || columns_of_tiles(g) != g->n)
        return false;
    return is_bias(store) ? g->a_row == 1 : g->a_col == 1 && beyond_vectors(g) == 0;
}

/* A tile that is as short as this is done before its loop, written out four times, pays, and fewer instructions are read for it:
 * what a step of a small network runs takes more than the 32 KB that L1 has for them. (Zen 5, one thread, two builds in turns:
 * 10 x 32 x 32 with a transposed takes 0.97 of the time, 32 x 4 x 256 0.82, 64 x 48 x 64 1.02; 10-32-2 in batches of 32 0.93 to
 * 0.99.) */
enum { SHORT_K = 32 };

/* Rows [row, row + rows) and columns [col, col + cols) of c; b: those columns of b */
static void small_tile(const dlc_gemm *g, int64_t row, int64_t rows, int64_t col, int64_t cols, const void *b, int64_t ldb)
{
    const dlc_gemm_kernels *kernels = g->kernels;
    void *c = at(g, g->c, row * g->c_row + col);
    const void *a = at(g, g->a, row * g->a_row);
    if (g->store == DLC_STORE_PLAIN && g->a_row == 1 && g->k <= SHORT_K && !g->accumulate)
        kernels->biased_tile(c, g->c_row, a, g->a_col, b, ldb, g->k, rows, cols, NULL, false);
    else if (g->store == DLC_STORE_PLAIN)
        kernels->tile(c, g->c_row, a, g->a_row, g->a_col, b, ldb, g->k, rows, cols, g->accumulate, NULL);
    else if (is_bias(g->store))
        kernels->biased_tile(c, g->c_row, a, g->a_col, b, ldb, g->k, rows, cols, at(g, g->beside, row),
                             g->store == DLC_STORE_RECTIFIED_BIAS);
    else
        kernels->gated_tile(c, g->c_row, a, g->a_row, b, ldb, g->k, rows, cols, at(g, g->beside, row * g->beside_row + col),
                            g->beside_row, g->store == DLC_STORE_WHERE_POSITIVE);
}

void dlc_gemm_run_small(const dlc_gemm *g)
{
    _Alignas(DLC_ALIGNMENT) char panel[SMALL_K * DLC_GEMM_MAX_NR_BYTES];
    const dlc_gemm_kernels *kernels = g->kernels;
    if (g->m == 0 || g->n == 0)
        return;
    const path path = choose_path(g);
    if (is_by_vector(path)) {
        dlc_gemm_by_vector(g, path, NULL);
        return;
    }
    if (is_by_dots(path)) {
        dlc_gemm_by_dots(g, path, panel);
        return;
    }
    const uint32_t m = (uint32_t)g->m, mr = (uint32_t)kernels->mr; /* 32 bits are divided in half the time of 64 */
    const uint32_t tiles = m <= mr ? 1 : (m + mr - 1) / mr, height = m <= mr ? m : (m + tiles - 1) / tiles;
    const int64_t end_of_higher = (int64_t)height * (m - (height - 1) * tiles); /* tiles behind it have a row less */
    const int64_t tiled = columns_of_tiles(g);
    for (int64_t col = 0; col < tiled; col += kernels->nr) {
        const int64_t cols = dlc_min64(kernels->nr, tiled - col);
        const void *b = at(g, g->b, col * g->b_col);
        int64_t ldb = g->b_row;
        if (g->b_col != 1 || cols & (kernels->lanes - 1)) {
            ldb = (cols + kernels->lanes - 1) & -kernels->lanes;
            kernels->pack(panel, ldb, b, g->b_col, g->b_row, cols, g->k);
            b = panel;
        }
        for (int64_t row = 0, rows; row < g->m; row += rows) {
            rows = row < end_of_higher ? height : height - 1;
            small_tile(g, row, rows, col, cols, b, ldb);
        }
        sum_columns(g, col, b, ldb, 1, g->k, cols, g->accumulate);
    }
    if (tiled < g->n) {
        const dlc_gemm last = rectangle(g, 0, g->m, tiled, g->n - tiled);
        dlc_gemm_by_few_columns(&last, panel);
    }
}

static void multiply(const dlc_gemm *g, int64_t first_row, int64_t first_col, const scheme *scheme, void *own, int thread)
{
    if (g->m == 0 || g->n == 0)
        return;
    if (scheme->path == GENERAL && !scheme->is_symmetric && !g->is_transient && are_few_rows_faster(g)) {
        dlc_gemm_by_few_rows(g, scheme, own);
        if (g->finish)
            finish_in_place(g, first_row, first_col, thread);
        return;
    }
    if (scheme->path == GENERAL) {
        dlc_gemm_by_blocks(g, first_row, first_col, scheme, own, thread);
        return;
    }
    if (is_by_dots(scheme->path)) {
        dlc_gemm_by_dot_blocks(g, scheme->path, first_row, first_col, own, thread);
        return;
    }
    dlc_gemm_by_vector(g, scheme->path, own);
    if (g->finish)
        finish_in_place(g, first_row, first_col, thread);
}

/* As many rows of a product take the time that it takes to pack a column of b. With 6, two threads read half of a large b each
 * where they would have read all of it: 784-256-128-10 in batches of 128 takes 0.89 of the time, 256-512-256-10 0.92, 128 x 2000
 * x 256 0.9, while 256 x 256 is level (more threads were not measured). The b of a transient c, a gradient of weights, is of the
 * batch and near, and weights are updated in long rows; of one that is packed, nothing is packed. */
static double packing_cost_of_b(const dlc_gemm *g)
{
    return has_large_b(g) && !g->is_transient && !g->packed_b ? 6 : 4;
}

/* Columns are dealt out in so many: vectors, of which two threads have 25 and 24 where 784 columns make 13 and 12 panels (Zen 5,
 * two builds in turns: 128 x 256 x 784 with b transposed takes 0.96 of the time, 1000 x 64 x 144 0.82, 32 x 512 x 272 0.95, others
 * 0.98 to 1.01; 100 x 300 x 500 with AVX2 0.87, SSE 0.94); where panels are packed already, or elements are pairs, whole panels. */
static int64_t columns_dealt(const dlc_gemm *g)
{
    return g->packed_b || g->kernels->packs_pairs ? g->kernels->nr : g->kernels->lanes;
}

/* The thread's rectangle of c: of the grids of n_threads rectangles the one with the least work. To pack a row of a costs
 * as much as its products with 10 columns. */
static dlc_gemm share(int64_t *row, int64_t *col, const dlc_gemm *g, int thread, int n_threads)
{
    const int64_t dealt = columns_dealt(g);
    int grid_rows = 1;
    double least = 0;
    const double b_cost = packing_cost_of_b(g);
    for (int down = 1; down <= n_threads; down++) {
        if (n_threads % down != 0)
            continue;
        double rows = (double)dlc_ceil_div(g->m, down);
        double cols = (double)(dealt * dlc_ceil_div(dlc_ceil_div(g->n, dealt), n_threads / down));
        double work = (rows + b_cost) * (cols + 10);
        if (down == 1 || work < least) {
            least = work;
            grid_rows = down;
        }
    }
    int64_t row_end, col_end;
    /* a product with a vector computes its last, odd elements one by one, and only those */
    dlc_split(row, &row_end, g->m, g->n == 1 ? g->kernels->nr : 1, thread % grid_rows, grid_rows);
    dlc_split(col, &col_end, g->n, dealt, thread / grid_rows, n_threads / grid_rows);
    return rectangle(g, *row, row_end - *row, *col, col_end - *col);
}

/* Of the triangle below the diagonal, the rows that are a thread's share of the work. */
static dlc_gemm share_of_triangle(int64_t *row, const dlc_gemm *g, int thread, int n_threads)
{
    *row = (int64_t)((double)g->m * sqrt((double)thread / n_threads));
    const int64_t end = thread + 1 == n_threads ? g->m : (int64_t)((double)g->m * sqrt((double)(thread + 1) / n_threads));
    return rectangle(g, *row, end - *row, 0, end);
}

static void multiply_symmetric(const dlc_gemm *g, const scheme *scheme, void *own, dlc_barrier *barrier, int thread,
                               int n_threads)
{
    int64_t row, end;
    dlc_gemm mine = share_of_triangle(&row, g, thread, n_threads);
    multiply(&mine, row, 0, scheme, own, thread);
    dlc_barrier_wait(barrier, n_threads);
    dlc_split(&row, &end, g->m, 1, thread, n_threads);
    g->kernels->mirror(g->c, g->c_row, row, end, g->m);
}

/* How many groups a team makes, of which each has parts of its own, and deals out their columns. A small c has too few to deal out:
 * there each thread is a group. A row's parts, a power of two, are divided evenly, as its columns can be. */
static int groups_of_threads(int parts, int n_threads)
{
    if (parts == DEEP_PARTS)
        return n_threads;
    int groups = parts;
    while (n_threads % groups != 0)
        groups /= 2;
    return groups;
}

static void multiply_by_parts(const dlc_gemm *g, const scheme *scheme, int count, void *parts, void *own, dlc_barrier *barrier,
                              int thread, int n_threads)
{
    const int64_t size = g->m * g->n;
    void *sums = g->b_sums ? at(g, parts, count * size) : NULL; /* (count, n) */
    const int groups = groups_of_threads(count, n_threads);
    int64_t part, part_end, col, col_end;
    dlc_split(&part, &part_end, count, 1, thread % groups, groups);
    dlc_split(&col, &col_end, g->n, g->kernels->nr, thread / groups, n_threads / groups);
    for (; part < part_end; part++) {
        int64_t p, p_end;
        dlc_split(&p, &p_end, g->k, 1, (int)part, count);
        dlc_gemm slice = rectangle(g, 0, g->m, col, col_end - col);
        slice.c = at(g, parts, part * size + col);
        slice.c_row = g->n;
        slice.a = at(g, g->a, p * g->a_col);
        slice.b = at(g, slice.b, p * g->b_row);
        slice.k = p_end - p;
        slice.accumulate = false;
        slice.b_sums = sums ? at(g, sums, part * g->n + col) : NULL;
        slice.finish = NULL;
        multiply(&slice, 0, 0, scheme, own, thread);
        if (scheme->is_symmetric)
            g->kernels->mirror(slice.c, g->n, 0, g->n, g->n);
    }
    dlc_barrier_wait(barrier, n_threads);

    int64_t row;
    dlc_gemm mine = share(&row, &col, g, thread, n_threads);
    if (mine.m == 0 || mine.n == 0)
        return;
    g->kernels->sum_parts(mine.c, g->c_row, at(g, parts, row * g->n + col), g->n, size, count, mine.m, mine.n,
                          g->accumulate);
    if (mine.b_sums)
        g->kernels->sum_parts(mine.b_sums, g->n, at(g, sums, col), g->n, g->n, count, 1, mine.n, g->accumulate);
    if (g->finish)
        finish_in_place(&mine, row, col, thread);
}

int64_t dlc_gemm_cost(int64_t m, int64_t n, int64_t k, int64_t element_size)
{
    const int64_t products = dlc_cost_mul(dlc_cost_mul(m, n), dlc_max64(k, 1));
    return m == 1 || n == 1 ? products : products / (8 / element_size);
}

void dlc_gemm_scratch(int64_t *shared, int64_t *per_thread, const dlc_gemm *g)
{
    const int64_t elements = dlc_max64(dlc_gemm_blocks_scratch(g), dlc_gemm_narrow_scratch(g));
    *per_thread = dlc_align_up(elements * g->element_size);

    int64_t c_size = DEEP_C;
    if (g->m <= DEEP_C && g->n <= DEEP_C)
        c_size = dlc_min64(c_size, g->m * g->n);
    const int64_t part = c_size + dlc_min64(g->n, DEEP_C); /* with sums of b: b_sums is no pointer yet */
    const int parts = g->k >= DEEP_K ? DEEP_PARTS : is_long_row(g) ? ROW_PARTS : 0;
    *shared = dlc_align_up(parts * part * g->element_size);
}

void dlc_gemm_run(const dlc_gemm *g, void *shared, void *own, dlc_barrier *barrier, int thread, int n_threads)
{
    const scheme scheme = dlc_gemm_choose_scheme(g);
    const int parts = parts_of_k(g);
    if (parts > 1) {
        multiply_by_parts(g, &scheme, parts, shared, own, barrier, thread, n_threads);
        return;
    }
    if (scheme.is_symmetric) {
        multiply_symmetric(g, &scheme, own, barrier, thread, n_threads);
        return;
    }
    int64_t row = 0, col = 0;
    dlc_gemm mine = n_threads == 1 ? *g : share(&row, &col, g, thread, n_threads);
    multiply(&mine, row, col, &scheme, own, thread);
}
