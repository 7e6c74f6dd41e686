/* Arrays of any dtype and stride, and numbers, as contiguous reals. */
#include "kernels/kernels_decl.h"
#include "kernels/lanes.h"
#include "kernels/map_kernels.h"

/* Loops differ in the stride only, of which a constant lets the compiler use whole vectors: contiguous elements, and of reals
 * every second one (as the real parts of complex numbers are) and those of a reversed array. */
#define CONVERT_WITH(step, value)   \
    for (int64_t i = 0; i < n; i++) \
        to[i] = (real)(value(from[i * (step)]))

#define DEFINE_CONVERT(dtype, source, value, is_real)                                 \
    static void convert_##dtype(void *out, const void *in, int64_t stride, int64_t n) \
    {                                                                                 \
        real *to = out;                                                               \
        const source *from = in;                                                      \
        if (stride == 1)                                                              \
            CONVERT_WITH(1, value);                                                   \
        else if ((is_real) && stride == 2)                                            \
            CONVERT_WITH(2, value);                                                   \
        else if ((is_real) && stride == -1)                                           \
            CONVERT_WITH(-1, value);                                                  \
        else                                                                          \
            CONVERT_WITH(stride, value);                                              \
    }

#define AS_IS(x) (x)
#define IS_TRUE(x) ((x) != 0)

DEFINE_CONVERT(float32, float, AS_IS, true)
DEFINE_CONVERT(float64, double, AS_IS, true)
DEFINE_CONVERT(uint8, uint8_t, AS_IS, false)
DEFINE_CONVERT(int32, int32_t, AS_IS, false)
DEFINE_CONVERT(int64, int64_t, AS_IS, false)
DEFINE_CONVERT(bool, uint8_t, IS_TRUE, false)

dlc_convert_kernel *const DLC_NAME(dlc_convert_kernels)[DLC_DTYPE_COUNT] = {
    [DLC_FLOAT32] = convert_float32, [DLC_FLOAT64] = convert_float64, [DLC_UINT8] = convert_uint8,
    [DLC_INT32] = convert_int32,     [DLC_INT64] = convert_int64,     [DLC_BOOL] = convert_bool,
};

/* Four vectors at a time: 4 KiB in 45 ns, where vectors one by one took 75 and those of 16 bytes 180, as long as three
 * additions (x86-64-v3 on Zen 3). */
DLC_INLINE void fill(real *to, vreal v, int64_t n)
{
    enum { STEP = 4 * DLC_LANES };
    int64_t i = 0;
    for (; i + STEP <= n; i += STEP)
        for (int part = 0; part < 4; part++)
            v_store(to + i + part * DLC_LANES, v);
    for (; i + DLC_LANES <= n; i += DLC_LANES)
        v_store(to + i, v);
    if (i < n)
        v_store_part(to + i, v, n - i);
}

void DLC_NAME(dlc_fill)(void *out, double value, int64_t n) { fill(out, v_splat((real)value), n); }

void DLC_NAME(dlc_fill_rows)(void *out, const void *values, int64_t stride, int64_t rows, int64_t cols)
{
    const real *from = values;
    real *to = out;
    if (cols % DLC_LANES == 0 && cols <= 4 * DLC_LANES) { /* what fill asks takes as long as it stores */
        for (int64_t r = 0; r < rows; r++, to += cols)
            for (int64_t i = 0; i < cols; i += DLC_LANES)
                v_store(to + i, v_splat(from[r * stride]));
        return;
    }
    for (int64_t r = 0; r < rows; r++, to += cols)
        fill(to, v_splat(from[r * stride]), cols);
}

void DLC_NAME(dlc_add_to_rows)(void *out, const void *x, const void *values, int64_t stride, int64_t rows, int64_t cols)
{
    const real *in = x, *added = values;
    real *to = out;
    const int64_t whole = cols / DLC_LANES * DLC_LANES;
    for (int64_t r = 0; r < rows; r++, in += cols, to += cols) {
        const vreal v = v_splat(added[r * stride]);
        for (int64_t i = 0; i < whole; i += DLC_LANES)
            v_store(to + i, v_load(in + i) + v);
        if (whole < cols)
            v_store_part(to + whole, v_load_part(in + whole, cols - whole, 0) + v, cols - whole);
    }
}
