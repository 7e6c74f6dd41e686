/* Blocking, packing and the split over threads. What decides the order of summation (the paths below, where k is cut)
 * depends on shapes, strides, dtype and ISA only. How c is cut and what is packed may depend on the number of threads:
 * kernels give an element of c the same value in every tile. */
#include "gemm/gemm.h"

#include <math.h>
#include <stddef.h>

#include "core/sizes.h"

/* A small c with a deep k (a Gram matrix of many rows) has too few tiles for a team: k is cut in DEEP_PARTS parts, divisible
 * among 2, 3, 4, 6, 8, 12 and 24 threads, whose products are added up in order. From DEEP_K on a part is no shorter
 * than 256, so that adding up costs under 1%. DEEP_C bounds the scratch; larger c have tiles enough. */
#define DEEP_PARTS 24
#define DEEP_K (DEEP_PARTS * 256)
#define DEEP_C 8192

/* Elements of a strided vector that are made contiguous at a time: a third of an L1 cache. */
#define VECTOR_K 4096

/* A tile reads a as fast in place as packed, as long as a stride is 1: up to this many columns packing only costs time (4% at
 * 256^3, nothing at 512^3, half of it at 10 columns); beyond, it brings distant rows together (10% at 1024^3). */
#define PACK_A_COLS 512

/* Rows a multiple of so many bytes apart share one set of L1, which has 8 or 12 lines; an AVX-512 tile reads 14 rows. From the
 * second panel of columns on, to read them in place took 1.1 to 1.2 times as long as to pack them (256 x 1024 times 64 to
 * 256 columns, float64 512^3). */
#define L1_SET_BYTES 4096 /* as in graph/lower.py */
#define L1_WAYS 8

/* The depth of blocks of an a that is read in place across its rows: of each of its lines a tile uses a part, and the next
 * tile the next one, if the line is still in L1 (5000 x 50 transposed times itself: 128 takes 0.87 of the time of 384). */
#define STRIDED_A_DEPTH 128

/* The depth of blocks of a b whose rows lie whole pages apart. These share few sets of L2, too, where the processor keeps what it
 * fetches beside a panel for the next one. (Intel Xeon, float32, one thread, builds in turns, with rows fetched 8 ahead of packing
 * instead of 16: 16 x 1024 x 1024 takes 0.67 of the time, 32 rows 0.7, 64 0.76, 128 0.86, 256 0.93, 1024 and 4096 0.98 to 1.01.
 * With blocks of 352 it is 0.77 for 16 and 32 rows; 192 gains 1 to 2% more up to 64 rows and costs 2 to 3% from 1024 on. The
 * depth alone: 2 to 14 rows, which pack nothing, 0.9 to 0.99; depths of 300 to 500, 0.86 to 1.0; 32 of the 1024 columns, 0.84 for
 * 32 rows, 1.0 for 128 and 1.09 for 1024. AVX2: 0.93 to 1.0.) */
#define COLLIDING_B_DEPTH 256

/* Bytes between the lines that tiles fetch of the next depth, at most. What is fetched all at once before a tile waits for line
 * fill buffers, and the tile with it. Line by line within the tile, every second or third, 1000000 x 50 transposed times itself
 * takes 0.83 of the time (float64: 0.76), and 0.9 with every line, as the hardware fetches those between. Every fourth takes as
 * long as all at once, and none longer. What tiles do not come to is left to the hardware. (Intel Xeon, one thread, two builds in
 * turns; every second line also where tiles are many is level, 0.96 to 1.05.) */
#define MOST_APART (3 * DLC_ALIGNMENT)

/* From this depth on the products of a symmetric result that are left out take longer than to copy them. */
#define SYMMETRIC_K 64

/* A panel of b that stays in L1 is read in place by few tiles: packing costs 17% of 32 x 256 x 256, 9% at 64 rows, and saves
 * 2% at 128. Where its rows lie further apart than PACK_B_STRIDE bytes, more pages than the first-level TLB holds and in
 * powers of two few sets of L1, reading it twice is slower than packing it (32 x 1024 x 1024: 46% of peak, packed 58%). */
#define PACK_B_ROWS 64
#define PACK_B_STRIDE 1024

/* Tiles that the rows of a block of a transient c make. It is read again from L2, as is what finish reads beside it (with 8, two
 * threads take 2 to 5% longer for 784-1024-1024-10; one, and 784-256-128-10, are level). */
#define TRANSIENT_TILES 4

/* A thread's share of a b that is packed ahead of its tiles, beyond this size, does not stay in L2: what a panel of it is packed
 * from is fetched while the tiles of the one before are computed. (256 x 1024 x 1024 takes 0.95 of its time with b transposed,
 * and in bfloat16 0.91; of a b that lies in L2, the loop takes 2 to 3%.) A tile that packs fetches for itself. */
#define FAR_B_BYTES (1 << 20)

static void *at(const dlc_gemm *g, const void *base, int64_t element)
{
    return (char *)(uintptr_t)base + element * g->element_size;
}

static int64_t round_up(int64_t n, int64_t multiple) { return dlc_ceil_div(n, multiple) * multiple; }

/* How many elements of a panel stand for such a depth */
static int64_t packed_depth(const dlc_gemm_kernels *kernels, int64_t depth)
{
    return kernels->packs_pairs ? dlc_ceil_div(depth, 2) : depth;
}

/* The size of equal blocks of at most `most` that `n` is cut in */
static int64_t even_blocks(int64_t n, int64_t most)
{
    return n <= most ? n : dlc_ceil_div(n, dlc_ceil_div(n, most));
}

/* Whether rows of b lie so near each other that a panel of it can be read in place. */
static bool has_near_rows(const dlc_gemm *g)
{
    const int64_t apart = g->b_row < 0 ? -g->b_row : g->b_row;
    return apart <= PACK_B_STRIDE / g->element_size;
}

static bool is_deep(const dlc_gemm *g)
{
    return !g->packed_b && g->k >= DEEP_K && g->m <= DEEP_C && g->n <= DEEP_C && g->m * g->n <= DEEP_C;
}

/* A part of the product: the elements of c from (row, col) on. That of the first rows has the sums of its columns of b, too. */
static dlc_gemm rectangle(const dlc_gemm *g, int64_t row, int64_t rows, int64_t col, int64_t cols)
{
    dlc_gemm part = *g;
    part.m = rows;
    part.n = cols;
    if (!g->is_transient)
        part.c = at(g, g->c, row * g->c_row + col);
    part.a = at(g, g->a, row * g->a_row);
    part.b = at(g, g->b, col * g->b_col);
    part.b_sums = g->b_sums && row == 0 ? at(g, g->b_sums, col) : NULL;
    return part;
}

typedef enum path { GENERAL, VECTOR_TIMES_MATRIX, MATRIX_TIMES_VECTOR, DOTS_OF_FEW_COLUMNS, DOTS_OF_FEW_ROWS } path;

/* What is decided for the whole product and not for a thread's share of it, as it decides on the order of summation. */
typedef struct scheme {
    path path;
    bool pack_a;
    bool is_symmetric;  /* only what lies on or below the diagonal is computed */
    int64_t most_depth; /* of the blocks that k is cut in */
} scheme;

/* Whether tiles along k, which take columns in pairs and add up their lanes at the end, are faster than tiles along the columns
 * of c, whose vectors a narrow c does not fill. In multiply-adds of vectors, to add up an element takes 4. m takes no part: a
 * row of c is the same whatever other rows there are. */
static bool dots_of_few_columns_are_faster(const dlc_gemm *g)
{
    const int64_t lanes = g->kernels->lanes, vectors = dlc_ceil_div(g->k, lanes);
    return g->a_col == 1 && (g->b_row == 1 || g->b_col == 1) && g->n < g->kernels->nr &&
           (round_up(g->n, lanes) - round_up(g->n, 2)) * vectors > 4 * g->n;
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

/* In a product with a vector every element of the matrix is used once, and nothing is worth packing. Every path
 * sums in an order of its own. */
static path choose_path(const dlc_gemm *g)
{
    if (g->kernels->packs_pairs)
        return GENERAL;
    if (g->n == 1 && (g->a_col == 1 || (g->a_row == 1 && g->c_row == 1)))
        return MATRIX_TIMES_VECTOR;
    if (g->m == 1 && (g->b_col == 1 || g->b_row == 1))
        return VECTOR_TIMES_MATRIX;
    if (dots_of_few_columns_are_faster(g))
        return DOTS_OF_FEW_COLUMNS;
    return dots_of_few_rows_are_faster(g) ? DOTS_OF_FEW_ROWS : GENERAL;
}

/* Whether a is b transposed, as in a Gram matrix, and large enough for the half that is saved to be worth its copy. */
static bool is_symmetric(const dlc_gemm *g)
{
    return !g->packed_b && g->a == g->b && g->m == g->n && g->a_row == g->b_col && g->a_col == g->b_row && !g->accumulate &&
           !g->finish && !g->b_sums && g->m > g->kernels->nr && g->k >= SYMMETRIC_K;
}

/* Whether rows so many elements apart share one set of L1. */
static bool rows_collide(const dlc_gemm *g, int64_t apart)
{
    return apart != 0 && apart * g->element_size % L1_SET_BYTES == 0;
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

static bool is_by_dots(path path) { return path == DOTS_OF_FEW_COLUMNS || path == DOTS_OF_FEW_ROWS; }

static scheme choose_scheme(const dlc_gemm *g)
{
    const bool pack_a = g->kernels->packs_pairs || g->n > PACK_A_COLS || (g->a_row != 1 && g->a_col != 1) ||
                        (g->is_transient && g->k > STRIDED_A_DEPTH) || rows_of_a_collide(g);
    const bool is_strided = !pack_a && g->a_col != 1;
    return (scheme){
        .path = choose_path(g),
        .pack_a = pack_a,
        .is_symmetric = is_symmetric(g),
        .most_depth = dlc_min64(dlc_min64(g->kernels->kc, is_strided ? STRIDED_A_DEPTH : INT64_MAX), most_depth_of_b(g)),
    };
}

bool dlc_gemm_may_be_transient(const dlc_gemm *g)
{
    return choose_path(g) == GENERAL && !is_deep(g) && g->k <= g->kernels->kc;
}

/* Of a block of c */
static int64_t most_rows(const dlc_gemm *g)
{
    return g->is_transient ? dlc_min64(g->kernels->mc, TRANSIENT_TILES * g->kernels->mr) : g->kernels->mc;
}

/* y (n) = or += x (k) @ matrix (k, n), either stride of which is 1 */
static void multiply_vector(const dlc_gemm *g, void *y, int64_t y_stride, const void *x, int64_t x_stride,
                            const void *matrix, int64_t k_stride, int64_t n_stride, int64_t n, void *own)
{
    const dlc_gemm_kernels *kernels = g->kernels;
    int64_t p = 0;
    do {
        int64_t depth = dlc_min64(g->k - p, VECTOR_K);
        bool accumulate = g->accumulate || p > 0;
        const void *x_p = at(g, x, p * x_stride), *matrix_p = at(g, matrix, p * k_stride);
        if (n_stride == 1 && y_stride == 1) {
            kernels->vector_matrix(y, x_p, x_stride, matrix_p, k_stride, depth, n, accumulate);
        } else {
            if (x_stride != 1) {
                kernels->pack(own, depth, x_p, x_stride, 0, depth, 1);
                x_p = own;
            }
            kernels->matrix_vector(y, y_stride, matrix_p, n_stride, x_p, n, depth, accumulate);
        }
        p += VECTOR_K;
    } while (p < g->k);
}

static void sum_columns(const dlc_gemm *g, int64_t col, const void *b, int64_t b_row, int64_t b_col, int64_t k, int64_t n,
                        bool accumulate)
{
    if (g->b_sums)
        g->kernels->sum_columns(at(g, g->b_sums, col), b, b_row, b_col, k, n, accumulate);
}

static bool is_by_vector(path path) { return path == MATRIX_TIMES_VECTOR || path == VECTOR_TIMES_MATRIX; }

/* own: for an element of the vector for each of k, where it or the matrix is strided */
static void multiply_by_vector(const dlc_gemm *g, path path, void *own)
{
    if (path == MATRIX_TIMES_VECTOR)
        multiply_vector(g, g->c, g->c_row, g->b, g->b_row, g->a, g->a_col, g->a_row, g->m, own);
    else
        multiply_vector(g, g->c, 1, g->a, g->a_col, g->b, g->b_row, g->b_col, g->n, own);
    sum_columns(g, 0, g->b, g->b_row, g->b_col, g->k, g->n, g->accumulate);
}

/* All of a part of the product whose first element is (row, col) of the whole */
static void finish_in_place(const dlc_gemm *g, int64_t row, int64_t col, int thread)
{
    const dlc_gemm_block block = {g->c, g->c_row, row, col, g->m, g->n};
    g->finish(g->context, &block, thread);
}

/* Vectors along k that have dot products with others */
typedef struct vectors {
    const void *first;
    int64_t apart, step; /* from one to the next; from one element to the next */
    int64_t count;
    int64_t c_stride; /* between their elements of c */
} vectors;

static vectors rows_of_a(const dlc_gemm *g) { return (vectors){g->a, g->a_row, g->a_col, g->m, g->c_row}; }
static vectors columns_of_b(const dlc_gemm *g) { return (vectors){g->b, g->b_col, g->b_row, g->n, 1}; }

/* By stretches of k of which the vectors of a tile stay in L1, as do up to about 10 of the few. These are packed unless they lie
 * as the others do, along k. */
static void multiply_dots(const dlc_gemm *g, path path, void *own)
{
    const dlc_gemm_kernels *kernels = g->kernels;
    const bool few_rows = path == DOTS_OF_FEW_ROWS;
    const vectors few = few_rows ? rows_of_a(g) : columns_of_b(g), many = few_rows ? columns_of_b(g) : rows_of_a(g);
    const int64_t stretch = round_up(even_blocks(g->k, kernels->kc), kernels->lanes);
    for (int64_t p = 0; p < g->k; p += stretch) {
        const int64_t depth = dlc_min64(g->k - p, stretch);
        const void *x = at(g, few.first, p * few.step);
        int64_t apart = few.apart;
        if (few.step != 1) {
            apart = round_up(depth, kernels->lanes);
            kernels->pack(own, apart, x, few.step, few.apart, depth, few.count);
            x = own;
        }
        const void *y = at(g, many.first, p * many.step);
        kernels->dots(g->c, many.c_stride, few.c_stride, y, many.apart, x, apart, many.count, few.count, depth,
                      g->accumulate || p > 0);
        sum_columns(g, 0, few_rows ? y : x, 1, few_rows ? many.apart : apart, depth, g->n, g->accumulate || p > 0);
    }
}

/* The same for many rows, finished block by block */
static void multiply_dot_blocks(const dlc_gemm *g, path path, int64_t first_row, int64_t first_col, void *own, int thread)
{
    for (int64_t row = 0; row < g->m; row += g->kernels->mc) {
        const dlc_gemm block = rectangle(g, row, dlc_min64(g->m - row, g->kernels->mc), 0, g->n);
        multiply_dots(&block, path, own);
        if (g->finish)
            finish_in_place(&block, first_row + row, first_col, thread);
    }
}

/* Memory that is fetched little by little, while tiles are computed. */
typedef struct ahead {
    uintptr_t at, end;
} ahead;

/* Rows that are fetched into L2 line by line, while tiles are computed. */
typedef struct rows_ahead {
    uintptr_t row;       /* its address */
    int64_t apart, rows; /* bytes from one to the next; how many are left, with the one in hand */
    int64_t line, lines; /* the next line of the row in hand; those of a row */
    int64_t step;        /* lines a tile */
} rows_ahead;

static void fetch_rows(rows_ahead *ahead)
{
    for (int64_t i = 0; i < ahead->step && ahead->rows > 0; i++) {
        __builtin_prefetch((const void *)(ahead->row + (uintptr_t)(ahead->line * DLC_ALIGNMENT)), 0, 2);
        if (++ahead->line == ahead->lines) {
            ahead->line = 0;
            ahead->row += (uintptr_t)ahead->apart;
            ahead->rows--;
        }
    }
}

/* One thread's product while it runs. */
typedef struct job {
    const dlc_gemm *g;
    const scheme *scheme;
    int64_t row_of_first, col_of_first; /* where its first element lies in the whole product */
    bool pack_b, is_far; /* whether b is packed, and whether from rows beyond L2 */
    void *a_block, *b_block; /* where they are packed */
    int64_t p, depth;        /* the rows of b in hand */
    int64_t packed_depth;    /* of what is packed of them */
    int64_t first_col;       /* the first of the columns in hand, whose panels b_block may keep */
    int64_t end_col;         /* and the end of those */
    bool keeps_panels;       /* for the blocks of rows to come; else each panel takes the place of the one before */
    int64_t row, rows;       /* the rows of c in hand */
    dlc_gemm_block block;    /* of these the columns in hand */
    void *transient;         /* memory for it, NULL where it lies in c */
    int thread;
    int64_t tiles;           /* that they are divided in */
    int64_t height;          /* of the first of these */
    int64_t higher_tiles;    /* that are as high; the others have a row less */
    ahead next_a, next_b;    /* the rows of b to come, and as many columns of a */
    bool fetches_between;    /* whether a tile fetches them line by line, or they are fetched before it */
    int64_t apart, step;     /* bytes between the lines that a tile fetches; that are fetched for a tile */
    rows_ahead next_panel;   /* the columns of b to come that are going to be packed */
    bool accumulate;
} job;

/* The first row of a tile of the rows in hand. They are divided evenly: 128 rows are 18 tiles of 6 and 4 of 5, as one of 2
 * would take the time of 4. */
static int64_t first_row_of(const job *job, int64_t tile)
{
    return tile * job->height - dlc_max64(0, tile - job->higher_tiles);
}

static void *a_panel(const job *job, int64_t row) { return at(job->g, job->a_block, row * job->packed_depth); }

static const void *a_rows(const job *job, int64_t row)
{
    const dlc_gemm *g = job->g;
    return at(g, g->a, (job->row + row) * g->a_row + job->p * g->a_col);
}

static void pack_rows(const job *job)
{
    const dlc_gemm *g = job->g;
    for (int64_t tile = 0; tile < job->tiles; tile++) {
        const int64_t row = first_row_of(job, tile), rows = first_row_of(job, tile + 1) - row;
        g->kernels->pack_a(a_panel(job, row), rows, a_rows(job, row), g->a_row, g->a_col, rows, job->depth);
    }
}

/* Where dlc_gemm_pack_b packs row p, the first of a block, of the panel that begins with a column: a panel's rows lie one
 * after the other, all of k. */
static void *packed_panel(const dlc_gemm *g, const void *packed, int64_t col, int64_t p, int64_t step)
{
    return at(g, packed, col * packed_depth(g->kernels, g->k) + packed_depth(g->kernels, p) * step);
}

/* What the panel of b that begins with a column is packed from: nothing where it is not, or is near. */
static rows_ahead look_at_panel(const job *job, int64_t col)
{
    const dlc_gemm *g = job->g;
    const int64_t cols = dlc_min64(g->kernels->nr, job->end_col - col);
    if (!job->is_far || cols <= 0 || (job->keeps_panels && job->row > 0))
        return (rows_ahead){0};
    const bool is_straight = g->b_col == 1;
    const int64_t apart = is_straight ? g->b_row : g->b_col;
    const int64_t rows = is_straight ? job->depth : cols, length = is_straight ? cols : job->depth;
    const uintptr_t first = (uintptr_t)at(g, g->b, job->p * g->b_row + col * g->b_col);
    const int64_t behind = (int64_t)(first % DLC_ALIGNMENT); /* in its line, and rows whole lines apart are in theirs */
    const int64_t lines = dlc_ceil_div(behind + length * g->element_size, DLC_ALIGNMENT);
    return (rows_ahead){.row = first,
                        .apart = apart * g->element_size,
                        .rows = rows,
                        .lines = lines,
                        .step = dlc_ceil_div(rows * lines, job->tiles)};
}

/* Whether the next tile has lines to fetch itself. Lines that are to be fetched before it are. */
static bool next_lines(job *job, dlc_gemm_ahead *lines)
{
    ahead *next = job->next_a.at < job->next_a.end ? &job->next_a : &job->next_b;
    const uintptr_t first = next->at, step = (uintptr_t)job->step;
    if (first >= next->end)
        return false;
    next->at = next->end - first < step ? next->end : first + step;
    *lines = (dlc_gemm_ahead){(const void *)first, job->apart};
    for (uintptr_t line = first; !job->fetches_between && line < next->at; line += DLC_ALIGNMENT)
        __builtin_prefetch((const void *)line);
    return job->fetches_between;
}

/* How many of a panel's columns a tile computes whose last row has `reached` of them left of the diagonal or on it: of a symmetric c
 * the left vector, where that is enough. Tiles of pairs have other squares. (1000000 x 50 transposed times itself takes 0.91 of the
 * time in float32.) */
static int64_t columns_to_compute(const job *job, int64_t reached, int64_t cols)
{
    const dlc_gemm_kernels *kernels = job->g->kernels;
    const bool is_left = job->scheme->is_symmetric && !kernels->packs_pairs && reached <= kernels->lanes;
    return is_left ? dlc_min64(cols, kernels->lanes) : cols;
}

/* Columns of b, for the depth in hand */
typedef struct panel {
    const void *b; /* where tiles read them */
    int64_t ldb;
    void *packed;  /* where the first tile packs them, NULL where it does not */
    bool by_packing_tile; /* the first tile packs them, or fetches what was packed long ago */
} panel;

/* The columns [col, col + cols) of b, which are packed here where that is not for a tile to do */
static panel find_panel(const job *job, int64_t col, int64_t cols)
{
    const dlc_gemm *g = job->g;
    const dlc_gemm_kernels *kernels = g->kernels;
    const int64_t step = round_up(cols, kernels->lanes);
    const bool fits_packing_tile = cols == kernels->nr && !kernels->packs_pairs;
    if (g->packed_b)
        return (panel){packed_panel(g, g->packed_b, job->col_of_first + col, job->p, step), step, NULL, fits_packing_tile};
    const void *b = at(g, g->b, job->p * g->b_row + col * g->b_col);
    if (!job->pack_b && cols % kernels->lanes == 0)
        return (panel){b, g->b_row, NULL, false};
    void *place = at(g, job->b_block, job->keeps_panels ? (col - job->first_col) * job->packed_depth : 0);
    if (job->keeps_panels && job->row > 0)
        return (panel){place, step, NULL, false};
    if (fits_packing_tile && g->b_col == 1)
        return (panel){b, g->b_row, place, true};
    kernels->pack(place, step, b, g->b_col, g->b_row, cols, job->depth);
    return (panel){place, step, NULL, false};
}

/* The columns [col, col + cols) of the rows in hand, cols <= nr */
static void multiply_panel(job *job, int64_t col, int64_t cols)
{
    const dlc_gemm *g = job->g;
    const dlc_gemm_kernels *kernels = g->kernels;
    panel panel = find_panel(job, col, cols);
    job->next_panel = look_at_panel(job, col + cols);
    /* the first row that reaches below the diagonal */
    const int64_t first = job->scheme->is_symmetric ? col + job->col_of_first - job->row_of_first - job->row : 0;
    for (int64_t tile = 0, row = 0, next; tile < job->tiles; tile++, row = next) {
        next = first_row_of(job, tile + 1);
        if (next <= first)
            continue;
        dlc_gemm_ahead lines;
        const dlc_gemm_ahead *fetched = next_lines(job, &lines) ? &lines : NULL;
        fetch_rows(&job->next_panel);
        const int64_t rows = next - row;
        const int64_t a_row = job->scheme->pack_a ? 1 : g->a_row, a_col = job->scheme->pack_a ? rows : g->a_col;
        const void *a = job->scheme->pack_a ? a_panel(job, row) : a_rows(job, row);
        const int64_t col_in_block = job->col_of_first + col - job->block.col;
        void *c = at(g, job->block.data, row * job->block.ld + col_in_block);
        if (g->fetch)
            g->fetch(g->context, job->block.row + row, job->block.col + col_in_block, rows, cols);
        if (panel.by_packing_tile) {
            kernels->packing_tile(c, job->block.ld, a, a_row, a_col, panel.packed, panel.b, panel.ldb, job->depth, rows,
                                  job->accumulate, fetched);
            if (panel.packed)
                panel.b = panel.packed;
            panel.ldb = kernels->nr;
            panel.by_packing_tile = false;
        } else {
            const int64_t few = columns_to_compute(job, next - first, cols);
            kernels->tile(c, job->block.ld, a, a_row, a_col, panel.b, panel.ldb, job->packed_depth, rows, few, job->accumulate,
                          fetched);
        }
    }
    if (job->row == 0)
        sum_columns(g, col, panel.b, panel.ldb, 1, job->depth, cols, job->accumulate);
}

/* Columns [col, end) of the rows in hand become the block. */
static void begin_block(job *job, int64_t col, int64_t end)
{
    const dlc_gemm *g = job->g;
    job->block = (dlc_gemm_block){.data = job->transient ? job->transient : at(g, g->c, job->row * g->c_row + col),
                                  .ld = job->transient ? end - col : g->c_row,
                                  .row = job->row_of_first + job->row,
                                  .col = job->col_of_first + col,
                                  .rows = job->rows,
                                  .cols = end - col};
}

/* The columns in hand of the rows in hand, for the depth in hand, which is the last where is_complete */
static void multiply_columns(job *job, bool is_complete)
{
    const dlc_gemm *g = job->g;
    const dlc_gemm_kernels *kernels = g->kernels;
    for (int64_t col = job->first_col; col < job->end_col; col += kernels->nc) {
        const int64_t end = dlc_min64(job->end_col, col + kernels->nc);
        begin_block(job, col, end);
        for (int64_t j = col; j < end; j += kernels->nr)
            multiply_panel(job, j, dlc_min64(kernels->nr, end - j));
        if (is_complete && g->finish)
            g->finish(g->context, &job->block, job->thread);
    }
}

static void divide_rows(job *job)
{
    const int64_t mr = job->g->kernels->mr;
    job->tiles = dlc_ceil_div(job->rows, mr);
    job->height = dlc_ceil_div(job->rows, job->tiles);
    job->higher_tiles = job->rows - (job->height - 1) * job->tiles;
}

/* About as many tiles as there are; of a symmetric c those that reach below the diagonal. */
static int64_t count_tiles(const job *job)
{
    const dlc_gemm *g = job->g;
    const int64_t mr = g->kernels->mr, nr = g->kernels->nr, across = dlc_ceil_div(g->n, nr);
    if (!job->scheme->is_symmetric)
        return dlc_ceil_div(g->m, mr) * across;
    int64_t tiles = 0;
    for (int64_t row = 0; row < g->m; row += mr)
        tiles += dlc_min64(across, dlc_ceil_div(job->row_of_first + dlc_min64(row + mr, g->m), nr));
    return tiles;
}

/* What is fetched ahead of `depth` rows, or columns, that lie next to each other `apart` elements apart: nothing where they are
 * too long. */
static ahead look_at_rows(const dlc_gemm *g, const void *x, int64_t first, int64_t apart, int64_t depth)
{
    const int64_t bytes = apart * g->element_size;
    if (bytes <= 0 || bytes > PACK_B_STRIDE)
        return (ahead){0, 0};
    const uintptr_t begin = (uintptr_t)x + (uintptr_t)(first * bytes);
    return (ahead){begin, begin + (uintptr_t)(depth * bytes)};
}

/* Where rows of b, and columns of a, are read in place and shorter than PACK_B_STRIDE, those of the next depth are fetched by the
 * tiles of this one: else a product that is narrow and deep waits for memory as long as it computes. */
static void look_ahead(job *job)
{
    const dlc_gemm *g = job->g;
    const int64_t next = job->p + job->depth, depth = dlc_min64(job->depth, g->k - next);
    job->next_a = job->next_b = (ahead){0, 0};
    if (g->kernels->packs_pairs || depth < g->kernels->steps_per_line)
        return;
    if (!job->scheme->pack_a && g->a_col != 1)
        job->next_a = look_at_rows(g, g->a, next, g->a_col, depth);
    if (!job->pack_b && !g->packed_b && g->b != g->a && !job->scheme->is_symmetric)
        job->next_b = look_at_rows(g, g->b, next, g->b_row, depth);
    const int64_t bytes = (int64_t)(job->next_a.end - job->next_a.at + job->next_b.end - job->next_b.at);
    if (bytes == 0)
        return;
    const int64_t tiles = count_tiles(job);
    const int64_t lines = job->depth / g->kernels->steps_per_line;
    job->fetches_between = job->scheme->pack_a || g->a_row == 1;
    job->apart = job->fetches_between ? dlc_min64(dlc_align_up(dlc_ceil_div(bytes, tiles * lines)), MOST_APART) : 0;
    job->step = job->fetches_between ? lines * job->apart : dlc_align_up(bytes / tiles + 1);
}

/* Of a symmetric c the columns in hand end with the diagonal. */
static int64_t end_of_columns(const job *job, int64_t end)
{
    return job->scheme->is_symmetric ? dlc_min64(end, job->row_of_first + job->row + job->rows - job->col_of_first) : end;
}

/* Blocks of pairs begin where whole squares of AMX do, and with that no pair lies in two. */
#define PAIRS_DEPTH 32

static int64_t depth_of_blocks(const dlc_gemm *g, const scheme *scheme)
{
    const int64_t depth = even_blocks(g->k, scheme->most_depth);
    return g->kernels->packs_pairs && depth < g->k ? round_up(depth, PAIRS_DEPTH) : depth;
}

/* The most columns of b whose packed panels wait for the next block of rows. */
static int64_t most_kept_cols(const dlc_gemm_kernels *kernels, int64_t depth)
{
    return kernels->panels * packed_depth(kernels, kernels->kc) / dlc_max64(packed_depth(kernels, depth), 1) * kernels->nr;
}

/* A block of rows of a is packed for L2 and stays for all columns in hand. A panel of b is packed for L1 just before its
 * use, and where more blocks of rows follow it is kept for them. */
static void multiply_general(const dlc_gemm *g, int64_t first_row, int64_t first_col, const scheme *scheme, void *own,
                             int thread)
{
    const dlc_gemm_kernels *kernels = g->kernels;
    const int64_t block_depth = depth_of_blocks(g, scheme), block_rows = even_blocks(g->m, most_rows(g));
    job job = {.g = g, .scheme = scheme, .row_of_first = first_row, .col_of_first = first_col, .b_block = own,
               .thread = thread};
    job.keeps_panels = block_rows < g->m && !scheme->is_symmetric; /* whose first block of rows uses few of them */
    const int64_t kept_cols = round_up(even_blocks(g->n, most_kept_cols(kernels, block_depth)), kernels->nr);
    const int64_t block_cols = job.keeps_panels ? kept_cols : g->n;
    job.a_block = at(g, own, packed_depth(kernels, block_depth) * (job.keeps_panels ? kept_cols : kernels->nr));
    if (g->is_transient)
        job.transient = at(g, job.a_block, packed_depth(kernels, block_depth) * block_rows);
    job.pack_b = kernels->packs_pairs || g->m > (has_near_rows(g) ? PACK_B_ROWS : kernels->mr) || g->b_col != 1;
    const int64_t b_bytes = dlc_cost_mul(dlc_cost_mul(g->k, g->n), g->element_size);
    const bool is_packed_ahead = g->b_col == 1 ? kernels->packs_pairs : g->b_row == 1;
    job.is_far = is_packed_ahead && !g->packed_b && b_bytes > FAR_B_BYTES;
    do {
        job.depth = dlc_min64(block_depth, g->k - job.p);
        job.packed_depth = packed_depth(kernels, job.depth);
        job.accumulate = g->accumulate || job.p > 0;
        const bool is_complete = job.p + job.depth == g->k;
        look_ahead(&job);
        for (job.first_col = 0; job.first_col < g->n; job.first_col += block_cols) {
            for (job.row = 0; job.row < g->m; job.row += block_rows) {
                job.rows = dlc_min64(block_rows, g->m - job.row);
                job.end_col = end_of_columns(&job, dlc_min64(g->n, job.first_col + block_cols));
                divide_rows(&job);
                if (scheme->pack_a)
                    pack_rows(&job);
                multiply_columns(&job, is_complete);
            }
        }
        job.p += job.depth;
    } while (job.p < g->k);
    if (kernels->end)
        kernels->end();
}

/* Where k may be cut in parts, it would not be with a packed b. */
bool dlc_gemm_gains_by_packed_b(const dlc_gemm *g)
{
    return choose_path(g) == GENERAL && g->k > 0 && g->k < DEEP_K && !dlc_gemm_is_small(g);
}

bool dlc_gemm_packed_size(int64_t *size, const dlc_gemm *g)
{
    int64_t cols;
    return dlc_size_add(&cols, g->n, g->kernels->lanes - 1) &&
           dlc_size_mul(size, cols / g->kernels->lanes * g->kernels->lanes, packed_depth(g->kernels, g->k));
}

void dlc_gemm_pack_b(void *packed, const dlc_gemm *g, int thread, int n_threads)
{
    const dlc_gemm_kernels *kernels = g->kernels;
    const scheme scheme = choose_scheme(g);
    const int64_t block_depth = depth_of_blocks(g, &scheme);
    int64_t col, end;
    dlc_split(&col, &end, g->n, kernels->nr, thread, n_threads);
    for (; col < end; col += kernels->nr) {
        const int64_t cols = dlc_min64(kernels->nr, end - col), step = round_up(cols, kernels->lanes);
        for (int64_t p = 0; p < g->k; p += block_depth)
            kernels->pack(packed_panel(g, packed, col, p, step), step, at(g, g->b, p * g->b_row + col * g->b_col), g->b_col,
                          g->b_row, cols, dlc_min64(block_depth, g->k - p));
    }
}

/* What needs no blocks, no packing of whole operands and no team, and would spend most of its time on them: of 8^3 two
 * thirds. */
enum { SMALL_ROWS = PACK_B_ROWS, SMALL_K = 64 };

static bool is_small(const dlc_gemm *g)
{
    return g->m <= SMALL_ROWS && g->k <= SMALL_K && g->n <= PACK_A_COLS && (g->a_row == 1 || g->a_col == 1) &&
           !g->kernels->packs_pairs && (g->b_col != 1 || has_near_rows(g));
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
    return is_in_place && g->k <= SMALL_K && g->m <= PACK_A_COLS && g->n <= PACK_A_COLS;
}

bool dlc_gemm_is_small(const dlc_gemm *g)
{
    const path path = choose_path(g);
    if (is_by_vector(path))
        return is_small_by_vector(g, path);
    return is_by_dots(path) ? is_small_by_dots(g, path) : path == GENERAL && is_small(g);
}

void dlc_gemm_run_small(const dlc_gemm *g)
{
    _Alignas(DLC_ALIGNMENT) char panel[SMALL_K * DLC_GEMM_MAX_NR_BYTES];
    const dlc_gemm_kernels *kernels = g->kernels;
    if (g->m == 0 || g->n == 0)
        return;
    const path path = choose_path(g);
    if (is_by_vector(path)) {
        multiply_by_vector(g, path, NULL);
        return;
    }
    if (is_by_dots(path)) {
        multiply_dots(g, path, panel);
        return;
    }
    const uint32_t m = (uint32_t)g->m, mr = (uint32_t)kernels->mr; /* 32 bits are divided in half the time of 64 */
    const uint32_t tiles = m <= mr ? 1 : (m + mr - 1) / mr, height = m <= mr ? m : (m + tiles - 1) / tiles;
    for (int64_t col = 0; col < g->n; col += kernels->nr) {
        const int64_t cols = dlc_min64(kernels->nr, g->n - col);
        const void *b = at(g, g->b, col * g->b_col);
        int64_t ldb = g->b_row;
        if (g->b_col != 1 || cols & (kernels->lanes - 1)) {
            ldb = (cols + kernels->lanes - 1) & -kernels->lanes;
            kernels->pack(panel, ldb, b, g->b_col, g->b_row, cols, g->k);
            b = panel;
        }
        for (int64_t row = 0; row < g->m; row += height)
            kernels->tile(at(g, g->c, row * g->c_row + col), g->c_row, at(g, g->a, row * g->a_row), g->a_row, g->a_col, b,
                          ldb, g->k, dlc_min64(height, g->m - row), cols, g->accumulate, NULL);
        sum_columns(g, col, b, ldb, 1, g->k, cols, g->accumulate);
    }
}

static void multiply(const dlc_gemm *g, int64_t first_row, int64_t first_col, const scheme *scheme, void *own, int thread)
{
    if (g->m == 0 || g->n == 0)
        return;
    if (scheme->path == GENERAL) {
        multiply_general(g, first_row, first_col, scheme, own, thread);
        return;
    }
    if (is_by_dots(scheme->path)) {
        multiply_dot_blocks(g, scheme->path, first_row, first_col, own, thread);
        return;
    }
    multiply_by_vector(g, scheme->path, own);
    if (g->finish)
        finish_in_place(g, first_row, first_col, thread);
}

/* As many rows of a product take the time that it takes to pack a column of b. A b beyond LARGE_B bytes is not at hand: it comes
 * from L3, and of weights that a team updates half from another core. With 6, two threads read half of such a b each where
 * they would have read all of it: 784-256-128-10 in batches of 128 takes 0.89 of the time, 256-512-256-10 0.92, 128 x 2000 x 256
 * 0.9, while 256 x 256 is level (more threads were not measured). The b of a transient c, a gradient of weights, is of the batch
 * and near, and weights are updated in long rows; of one that is packed, nothing is packed. */
#define LARGE_B (256 << 10)

static double packing_cost_of_b(const dlc_gemm *g)
{
    const int64_t bytes = dlc_cost_mul(dlc_cost_mul(g->k, g->n), g->element_size);
    return bytes > LARGE_B && !g->is_transient && !g->packed_b ? 6 : 4;
}

/* The thread's rectangle of c: of the grids of n_threads rectangles the one with the least work. To pack a row of a costs
 * as much as its products with 10 columns. */
static dlc_gemm share(int64_t *row, int64_t *col, const dlc_gemm *g, int thread, int n_threads)
{
    const int64_t nr = g->kernels->nr;
    int grid_rows = 1;
    double least = 0;
    const double b_cost = packing_cost_of_b(g);
    for (int down = 1; down <= n_threads; down++) {
        if (n_threads % down != 0)
            continue;
        double rows = (double)dlc_ceil_div(g->m, down);
        double cols = (double)(nr * dlc_ceil_div(dlc_ceil_div(g->n, nr), n_threads / down));
        double work = (rows + b_cost) * (cols + 10);
        if (down == 1 || work < least) {
            least = work;
            grid_rows = down;
        }
    }
    int64_t row_end, col_end;
    /* a product with a vector computes its last, odd elements one by one, and only those */
    dlc_split(row, &row_end, g->m, g->n == 1 ? nr : 1, thread % grid_rows, grid_rows);
    dlc_split(col, &col_end, g->n, nr, thread / grid_rows, n_threads / grid_rows);
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

static void multiply_deep(const dlc_gemm *g, const scheme *scheme, void *parts, void *own, dlc_barrier *barrier,
                          int thread, int n_threads)
{
    const int64_t size = g->m * g->n;
    void *sums = g->b_sums ? at(g, parts, DEEP_PARTS * size) : NULL; /* (DEEP_PARTS, n) */
    int64_t part, part_end;
    dlc_split(&part, &part_end, DEEP_PARTS, 1, thread, n_threads);
    for (; part < part_end; part++) {
        int64_t p, p_end;
        dlc_split(&p, &p_end, g->k, 1, (int)part, DEEP_PARTS);
        dlc_gemm slice = *g;
        slice.c = at(g, parts, part * size);
        slice.c_row = g->n;
        slice.a = at(g, g->a, p * g->a_col);
        slice.b = at(g, g->b, p * g->b_row);
        slice.k = p_end - p;
        slice.accumulate = false;
        slice.b_sums = sums ? at(g, sums, part * g->n) : NULL;
        slice.finish = NULL;
        multiply(&slice, 0, 0, scheme, own, thread);
        if (scheme->is_symmetric)
            g->kernels->mirror(slice.c, g->n, 0, g->n, g->n);
    }
    dlc_barrier_wait(barrier, n_threads);

    int64_t row, col;
    dlc_gemm mine = share(&row, &col, g, thread, n_threads);
    if (mine.m == 0 || mine.n == 0)
        return;
    g->kernels->sum_parts(mine.c, g->c_row, at(g, parts, row * g->n + col), g->n, size, DEEP_PARTS, mine.m, mine.n,
                          g->accumulate);
    if (mine.b_sums)
        g->kernels->sum_parts(mine.b_sums, g->n, at(g, sums, col), g->n, g->n, DEEP_PARTS, 1, mine.n, g->accumulate);
    if (g->finish)
        finish_in_place(&mine, row, col, thread);
}

int64_t dlc_gemm_cost(int64_t m, int64_t n, int64_t k, int64_t element_size)
{
    int64_t products = dlc_cost_mul(dlc_cost_mul(m, n), dlc_max64(k, 1));
    return products / (8 / element_size);
}

void dlc_gemm_scratch(int64_t *shared, int64_t *per_thread, const dlc_gemm *g)
{
    const dlc_gemm_kernels *kernels = g->kernels;
    const int64_t depth = dlc_min64(g->k, kernels->kc), rows = dlc_min64(g->m, most_rows(g));
    const int64_t most_kept = kernels->panels * kernels->nr * packed_depth(kernels, kernels->kc);
    const int64_t all_cols = packed_depth(kernels, depth) * round_up(dlc_min64(g->n, most_kept), kernels->nr);
    const int64_t kept = g->m > most_rows(g) ? dlc_min64(all_cols, most_kept) : packed_depth(kernels, depth) * kernels->nr;
    const int64_t transient = g->is_transient ? rows * dlc_min64(g->n, kernels->nc) : 0;
    const int64_t panels = packed_depth(kernels, depth) * rows + kept + transient + kernels->lanes;
    const int64_t vector = round_up(dlc_min64(g->k, VECTOR_K), kernels->lanes);
    const int64_t dots = dlc_min64(dlc_max64(g->m, g->n), kernels->nr) * round_up(depth, kernels->lanes);
    *per_thread = dlc_align_up(dlc_max64(dlc_max64(panels, vector), dots) * g->element_size);

    int64_t c_size = DEEP_C;
    if (g->m <= DEEP_C && g->n <= DEEP_C)
        c_size = dlc_min64(c_size, g->m * g->n);
    const int64_t part = c_size + dlc_min64(g->n, DEEP_C); /* with sums of b: b_sums is no pointer yet */
    *shared = g->k >= DEEP_K ? dlc_align_up(DEEP_PARTS * part * g->element_size) : 0;
}

void dlc_gemm_run(const dlc_gemm *g, void *shared, void *own, dlc_barrier *barrier, int thread, int n_threads)
{
    const scheme scheme = choose_scheme(g);
    if (is_deep(g)) {
        multiply_deep(g, &scheme, shared, own, barrier, thread, n_threads);
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
