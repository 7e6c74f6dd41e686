/* Products by tiles: blocks for the caches, their packing, and what is fetched ahead. */
#include "gemm/product.h"

/* A panel of b is read in place by few tiles, more of them if it stays in L1: to pack it costs 17% of 32 x 256 x 256, 9% at 64 rows
 * of AVX2, and saves 1 to 2% at 128, of AVX-512 (Zen 5) 3 to 7% at 70 to 128 rows, and is level at 224; of a k of 837 it saves
 * 2% at 140 rows. */
#define PACK_B_ROWS 64
#define PACK_B_TILES 16
#define L1_PANEL_BYTES (32 << 10)

/* Bytes between the lines that tiles fetch of the next depth, at most. What is fetched all at once before a tile waits for line
 * fill buffers, and the tile with it. Line by line within the tile, every second or third, 1000000 x 50 transposed times itself
 * takes 0.83 of the time (float64: 0.76), and 0.9 with every line, as the hardware fetches those between. Every fourth takes as
 * long as all at once, and none longer. What tiles do not come to is left to the hardware. (Intel Xeon, one thread, two builds in
 * turns, of tiles that fetched one line at a time and not two; every second line also where tiles are many is level, 0.96 to
 * 1.05.) */
#define MOST_APART (3 * DLC_ALIGNMENT)

/* Tiles that the rows of a block of a transient c make. It is read again from L2 (with 8, 784-1024-1024-10 takes 1%
 * longer on Zen 5, and on an Intel Xeon 2 to 5% on two threads). */
#define TRANSIENT_TILES 4

/* And the bytes of such a block, about. Up to 8192 columns (float32, AVX-512), and where panels are kept as many as these have, it
 * has whole rows, so that what finish reads and writes beside it runs on from row to row (ARCHITECTURE.md has what that gains). */
#define TRANSIENT_BYTES (448 << 10)

/* A thread's share of a b that is packed ahead of its tiles, beyond this size, does not stay in L2: what a panel of it is packed
 * from is fetched while the tiles of the one before are computed, as is, by tiles of pairs, a panel that was packed long ago
 * (gemm_amx.c has what that gains). (256 x 1024 x 1024 takes 0.95 of its time with b transposed,
 * and in bfloat16 0.91; of a b that lies in L2, the loop takes 2 to 3%.) A tile that packs fetches for itself. */
#define FAR_B_BYTES (1 << 20)

/* Of a block of c */
static int64_t most_cols(const dlc_gemm *g)
{
    const dlc_gemm_kernels *kernels = g->kernels;
    return g->is_transient ? round_up(TRANSIENT_BYTES / (kernels->mr * g->element_size), kernels->nr) : kernels->nc;
}

static int64_t most_rows(const dlc_gemm *g)
{
    const dlc_gemm_kernels *kernels = g->kernels;
    if (!g->is_transient)
        return kernels->mc;
    const int64_t tile_bytes = kernels->mr * dlc_max64(dlc_min64(g->n, most_cols(g)), 1) * g->element_size;
    return dlc_max64(dlc_min64(TRANSIENT_BYTES / tile_bytes, TRANSIENT_TILES), 1) * kernels->mr;
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
    int64_t part_depth;      /* of that what all tiles of a panel take before any takes more */
    int64_t parts;
    int64_t tiled;           /* the columns that tiles compute */
    void *for_last;          /* room for those behind them */
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
    bool fetches_packed;     /* whether next_b is the panel to come of a packed b, anew for each */
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
    const int64_t cols = dlc_min64(g->kernels->nr, dlc_min64(job->tiled, job->end_col) - col);
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
                        .step = dlc_ceil_div(rows * lines, job->tiles * job->parts)};
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

/* How many of a panel's columns a tile computes whose last row has `reached` of them left of the diagonal or on it: of a
 * symmetric c the left vector, where that is enough. Tiles of pairs have other squares. (1000000 x 50 transposed times itself
 * takes 0.91 of the time in float32.) */
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

/* Of a packed b, the panel that begins with a column. Its rows are as long as they were packed, also where tiles do not compute its
 * last columns. */
static panel panel_of_packed(const job *job, int64_t col)
{
    const dlc_gemm *g = job->g;
    const int64_t step = round_up(dlc_min64(g->kernels->nr, g->n - col), g->kernels->lanes);
    return (panel){packed_panel(g, g->packed_b, job->col_of_first + col, job->p, step), step, NULL, false};
}

/* Tiles fetch the panel of a packed b that begins with a column, if there is one, from end to end. */
static void look_at_packed_panel(job *job, int64_t col)
{
    job->next_b = (ahead){0, 0};
    job->fetches_between = true;
    job->apart = DLC_ALIGNMENT;
    if (col >= dlc_min64(job->tiled, job->end_col))
        return;
    const panel next = panel_of_packed(job, col);
    const uintptr_t begin = (uintptr_t)next.b;
    job->next_b = (ahead){begin, begin + (uintptr_t)(job->packed_depth * next.ldb * job->g->element_size)};
}

/* The columns [col, col + cols) of b, which are packed here where that is not for a tile to do */
static panel find_panel(const job *job, int64_t col, int64_t cols)
{
    const dlc_gemm *g = job->g;
    const dlc_gemm_kernels *kernels = g->kernels;
    const int64_t step = round_up(cols, kernels->lanes);
    const bool fits_packing_tile = cols == kernels->nr && !kernels->packs_pairs;
    if (g->packed_b) {
        panel packed = panel_of_packed(job, col);
        packed.by_packing_tile = fits_packing_tile;
        return packed;
    }
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

/* Rows of a symmetric c in the panel in hand */
typedef struct triangle {
    int64_t first;    /* the first that reaches below the diagonal */
    int64_t left_end; /* where those end whose tiles are of the left vector */
} triangle;

/* Those of the left vector are a vector's worth; or a tile, where tiles have fewer rows than that and are fewer so, but not where
 * the first one packs all of the panel's columns. */
static triangle find_triangle(const job *job, int64_t col, const panel *panel)
{
    const dlc_gemm_kernels *kernels = job->g->kernels;
    const int64_t first = col + job->col_of_first - job->row_of_first - job->row, rows = job->rows - first;
    const int64_t lanes = dlc_min64(kernels->lanes, rows), mr = kernels->mr;
    const bool makes_fewer = dlc_ceil_div(rows, mr) < dlc_ceil_div(lanes, mr) + dlc_ceil_div(rows - lanes, mr);
    return (triangle){first, first + (makes_fewer && mr < lanes && !panel->by_packing_tile ? mr : lanes)};
}

/* Where the tile ends that begins with `row`. Of a symmetric c whose a is read in place, tiles begin at the diagonal, and those of
 * the left vector end together. (Zen 5, one thread, two builds in turns, beside the same tiles for all panels: 50 x 6000 times its
 * own transpose takes 0.88 of the time, 100 x 100 0.9, 500 x 5000 0.98.) */
static int64_t end_of_tile(const job *job, int64_t tile, int64_t row, const triangle *below)
{
    if (!job->scheme->is_symmetric || job->scheme->pack_a)
        return first_row_of(job, tile + 1);
    if (row < below->first)
        return dlc_min64(below->first, job->rows);
    const int64_t rows = (row < below->left_end ? below->left_end : job->rows) - row;
    return row + dlc_ceil_div(rows, dlc_ceil_div(rows, job->g->kernels->mr));
}

/* The part of a panel that begins with its row p */
static void multiply_part(job *job, int64_t col, int64_t cols, int64_t p, panel *panel, const triangle *below)
{
    const dlc_gemm *g = job->g;
    const dlc_gemm_kernels *kernels = g->kernels;
    const int64_t depth = dlc_min64(job->part_depth, job->packed_depth - p);
    const bool accumulate = job->accumulate || p > 0;
    if (job->fetches_packed)
        job->step = depth / kernels->steps_per_line * DLC_ALIGNMENT;
    for (int64_t tile = 0, row = 0, next; row < job->rows; tile++, row = next) {
        next = end_of_tile(job, tile, row, below);
        if (next <= below->first)
            continue;
        dlc_gemm_ahead lines;
        const dlc_gemm_ahead *fetched = next_lines(job, &lines) ? &lines : NULL;
        fetch_rows(&job->next_panel);
        const int64_t rows = next - row;
        const int64_t a_row = job->scheme->pack_a ? 1 : g->a_row, a_col = job->scheme->pack_a ? rows : g->a_col;
        const void *a = job->scheme->pack_a ? at(g, a_panel(job, row), p * rows) : a_rows(job, row);
        void *c = at(g, job->block.data, row * job->block.ld + job->col_of_first + col - job->block.col);
        if (panel->by_packing_tile) {
            kernels->packing_tile(c, job->block.ld, a, a_row, a_col, panel->packed, panel->b, panel->ldb, depth, rows,
                                  accumulate, fetched);
            if (panel->packed)
                panel->b = panel->packed;
            panel->ldb = kernels->nr;
            panel->by_packing_tile = false;
        } else {
            const int64_t few = columns_to_compute(job, next - below->first, cols);
            kernels->tile(c, job->block.ld, a, a_row, a_col, at(g, panel->b, p * panel->ldb), panel->ldb, depth, rows, few,
                          accumulate, fetched);
        }
    }
}

/* The columns [col, col + cols) of the rows in hand, cols <= nr */
static void multiply_panel(job *job, int64_t col, int64_t cols)
{
    const dlc_gemm *g = job->g;
    panel panel = find_panel(job, col, cols);
    job->next_panel = look_at_panel(job, col + cols);
    if (job->fetches_packed)
        look_at_packed_panel(job, col + cols);
    const triangle below = job->scheme->is_symmetric ? find_triangle(job, col, &panel) : (triangle){0, 0};
    for (int64_t part = 0; part < job->parts; part++)
        multiply_part(job, col, cols, part * job->part_depth, &panel, &below);
    if (job->row == 0)
        sum_columns(g, col, panel.b, panel.ldb, 1, job->depth, cols, job->accumulate);
}

/* The last columns of the product, [col, end), of the rows in hand */
static void multiply_last(const job *job, int64_t col, int64_t end)
{
    const dlc_gemm *g = job->g, rows = rectangle(g, job->row, job->rows, col, end - col);
    dlc_gemm part = block_of_k(&rows, job->p, job->depth);
    part.c = at(g, job->block.data, job->col_of_first + col - job->block.col);
    part.c_row = job->block.ld;
    if (g->packed_b) {
        const int64_t before = col & (g->kernels->nr - 1); /* of its panel */
        const panel packed = panel_of_packed(job, col - before);
        part.b = at(g, packed.b, before);
        part.b_row = packed.ldb;
        part.b_col = 1;
    }
    dlc_gemm_by_few_columns(&part, job->for_last);
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
    const int64_t block_cols = most_cols(g), nr = g->kernels->nr;
    for (int64_t col = job->first_col; col < job->end_col; col += block_cols) {
        const int64_t end = dlc_min64(job->end_col, col + block_cols), tiled_end = dlc_min64(end, job->tiled);
        begin_block(job, col, end);
        for (int64_t j = col; j < tiled_end; j += nr)
            multiply_panel(job, j, dlc_min64(nr, tiled_end - j));
        if (tiled_end < end)
            multiply_last(job, tiled_end, end);
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
    const int64_t mr = g->kernels->mr, nr = g->kernels->nr, across = dlc_ceil_div(job->tiled, nr);
    if (!job->scheme->is_symmetric)
        return dlc_ceil_div(g->m, mr) * across;
    int64_t tiles = 0;
    for (int64_t first = -job->row_of_first; first < g->m && first + job->row_of_first < g->n; first += nr)
        tiles += dlc_ceil_div(g->m - dlc_max64(first, 0), mr);
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
    if (g->kernels->packs_pairs || depth < g->kernels->steps_per_line || job->tiled == 0)
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

int64_t dlc_gemm_block_depth(const dlc_gemm *g, const scheme *scheme)
{
    const int64_t depth = even_blocks(g->k, scheme->most_depth);
    return g->kernels->packs_pairs && depth < g->k ? round_up(depth, PAIRS_DEPTH) : depth;
}

/* Parts end, as blocks do, with a multiple of pairs. */
static void divide_depth(job *job)
{
    const dlc_gemm_kernels *kernels = job->g->kernels;
    job->part_depth = job->packed_depth;
    if (kernels->part_depth > 0)
        job->part_depth = round_up(even_blocks(job->packed_depth, kernels->part_depth), kernels->pairs_multiple);
    job->parts = job->packed_depth > 0 ? dlc_ceil_div(job->packed_depth, job->part_depth) : 1;
}

/* The most columns of b whose packed panels wait for the next block of rows. */
static int64_t most_kept_cols(const dlc_gemm_kernels *kernels, int64_t depth)
{
    return kernels->panels * packed_depth(kernels, kernels->kc) / dlc_max64(packed_depth(kernels, depth), 1) * kernels->nr;
}

/* Of c, where panels of b are not packed */
static int64_t most_rows_in_place(const dlc_gemm *g, int64_t depth)
{
    const dlc_gemm_kernels *kernels = g->kernels;
    if (!has_near_rows(g))
        return kernels->mr;
    return depth * kernels->nr * g->element_size > L1_PANEL_BYTES ? PACK_B_ROWS : PACK_B_TILES * kernels->mr;
}

void dlc_gemm_by_blocks(const dlc_gemm *g, int64_t first_row, int64_t first_col, const scheme *scheme, void *own, int thread)
{
    const dlc_gemm_kernels *kernels = g->kernels;
    const int64_t block_depth = dlc_gemm_block_depth(g, scheme), block_rows = even_blocks(g->m, most_rows(g));
    job job = {.g = g, .scheme = scheme, .row_of_first = first_row, .col_of_first = first_col, .b_block = own,
               .thread = thread};
    job.keeps_panels = block_rows < g->m && !scheme->is_symmetric; /* whose first block of rows uses few of them */
    const int64_t kept_cols = round_up(even_blocks(g->n, most_kept_cols(kernels, block_depth)), kernels->nr);
    const int64_t block_cols = job.keeps_panels ? kept_cols : g->n;
    job.a_block = at(g, own, packed_depth(kernels, block_depth) * (job.keeps_panels ? kept_cols : kernels->nr));
    job.for_last = at(g, job.a_block, packed_depth(kernels, block_depth) * block_rows);
    if (g->is_transient)
        job.transient = at(g, job.for_last, dlc_gemm_few_columns_scratch(kernels, block_rows, block_depth));
    job.tiled = g->n - dlc_gemm_last_columns(g, scheme, g->m - (g->m - 1) / block_rows * block_rows);
    job.pack_b = kernels->packs_pairs || g->m > most_rows_in_place(g, block_depth) || g->b_col != 1;
    const int64_t b_bytes = dlc_cost_mul(dlc_cost_mul(g->packed_b ? packed_depth(kernels, g->k) : g->k, g->n), g->element_size);
    const bool is_packed_ahead = g->b_col == 1 ? kernels->packs_pairs : g->b_row == 1;
    job.is_far = is_packed_ahead && !g->packed_b && b_bytes > FAR_B_BYTES;
    job.fetches_packed = kernels->packs_pairs && kernels->steps_per_line > 0 && g->packed_b && b_bytes > FAR_B_BYTES;
    do {
        job.depth = dlc_min64(block_depth, g->k - job.p);
        job.packed_depth = packed_depth(kernels, job.depth);
        divide_depth(&job);
        job.accumulate = g->accumulate || job.p > 0;
        const bool is_complete = job.p + job.depth == g->k;
        look_ahead(&job);
        for (job.first_col = 0; job.first_col < g->n; job.first_col += block_cols) {
            for (job.row = 0; job.row < g->m; job.row += block_rows) {
                job.rows = dlc_min64(block_rows, g->m - job.row);
                job.end_col = end_of_columns(&job, dlc_min64(g->n, job.first_col + block_cols));
                divide_rows(&job);
                if (scheme->pack_a && job.tiled > 0)
                    pack_rows(&job);
                multiply_columns(&job, is_complete);
            }
        }
        job.p += job.depth;
    } while (job.p < g->k);
    if (kernels->end)
        kernels->end();
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
    const scheme scheme = dlc_gemm_choose_scheme(g);
    const int64_t block_depth = dlc_gemm_block_depth(g, &scheme);
    int64_t col, end;
    dlc_split(&col, &end, g->n, kernels->nr, thread, n_threads);
    for (; col < end; col += kernels->nr) {
        const int64_t cols = dlc_min64(kernels->nr, end - col), step = round_up(cols, kernels->lanes);
        for (int64_t p = 0; p < g->k; p += block_depth)
            kernels->pack(packed_panel(g, packed, col, p, step), step, at(g, g->b, p * g->b_row + col * g->b_col), g->b_col,
                          g->b_row, cols, dlc_min64(block_depth, g->k - p));
    }
}

int64_t dlc_gemm_blocks_scratch(const dlc_gemm *g)
{
    const dlc_gemm_kernels *kernels = g->kernels;
    /* a thread's share has fewer columns, and so perhaps more rows in a block */
    const int64_t rows = dlc_min64(g->m, g->is_transient ? TRANSIENT_TILES * kernels->mr : kernels->mc);
    const int64_t depth = dlc_min64(g->k, kernels->kc);
    const int64_t most_kept = kernels->panels * kernels->nr * packed_depth(kernels, kernels->kc);
    const int64_t all_cols = packed_depth(kernels, depth) * round_up(dlc_min64(g->n, most_kept), kernels->nr);
    const int64_t kept = g->m > most_rows(g) ? dlc_min64(all_cols, most_kept) : packed_depth(kernels, depth) * kernels->nr;
    const int64_t transient = g->is_transient ? dlc_min64(rows * dlc_min64(g->n, most_cols(g)), kernels->mr * most_cols(g)) : 0;
    const int64_t few_columns = dlc_gemm_few_columns_scratch(kernels, rows, depth);
    return packed_depth(kernels, depth) * rows + kept + transient + few_columns + kernels->lanes;
}
