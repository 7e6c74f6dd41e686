"""The map interpreter: programs over broadcast arrays, with and without a reduction."""

import itertools
import struct

import numpy as np
import pytest

from dlcore import DlcoreError, _native
from helpers import REALS, THREADS, assert_close, assert_same_bits, layouts, team

CODES = {name: code for name, (code, _) in _native.map_instructions().items()}
REDUCTIONS = {"none": 0, "sum": 1, "max": 2, "min": 3, "mean": 4}


def words_of(
    instructions,
    *,
    dtype=np.float64,
    n_out=1,
    n_in=1,
    reduction="none",
    n_reduced=None,
    literals=(),
    temps=0,
):
    """A program as words; instructions are (name, dst, a[, b[, c]])."""
    if n_reduced is None:
        n_reduced = 0 if reduction == "none" else n_out
    words = [
        REALS.index(dtype),
        n_out,
        n_in,
        REDUCTIONS[reduction],
        n_reduced,
        len(literals),
        temps,
        len(instructions),
    ]
    for value, power in literals:
        words += [struct.unpack("<q", struct.pack("<d", value))[0], power]
    for name, dst, *operands in instructions:
        a, b, c = (*operands, 0, 0)[:3]
        words.append(CODES[name] | dst << 16 | a << 24 | b << 32 | c << 40)
    return words


def run(instructions, inputs, shape, out_shapes, *, rows=1, **options):
    dtype = options.setdefault("dtype", np.float64)
    outputs = [np.full(out_shape, np.nan, dtype) for out_shape in out_shapes]
    views = [np.asarray(x).reshape((1,) * (len(shape) - np.ndim(x)) + np.shape(x)) for x in inputs]
    words = words_of(instructions, n_out=len(outputs), n_in=len(inputs), **options)
    _native.run_map(words, outputs, views, shape, rows)
    return outputs


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize(
    "shape",
    [(), (1,), (1031,), (0, 4), (7, 10), (130, 10), (300, 257), (3, 2049), (5, 1, 9, 33), (2,) * 8],
)
def test_a_program_of_several_outputs_temporaries_and_literals(dtype, shape, rng):
    """out0 = (x + bias) * 2 rows, out1 = max(out0, -x) / rows"""
    x = rng.integers(-9, 9, shape).astype(dtype)
    bias = rng.integers(-9, 9, shape[-1:]).astype(dtype)
    first, second = run(
        [
            ("add", 6, 2, 3),
            ("multiply", 0, 6, 4),
            ("negative", 7, 2),
            ("maximum", 7, 0, 7),
            ("multiply", 1, 7, 5),
        ],
        [x, bias],
        shape,
        [shape, shape],
        rows=4,
        dtype=dtype,
        literals=[(2.0, 1), (1.0, -1)],
        temps=2,
    )
    expected = (x + bias) * 8
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_array_equal(second, np.maximum(expected, -x) / 4)


@pytest.mark.parametrize("shape", [(1000,), (1000, 3), (3, 1000)])
def test_the_sum_of_what_is_broadcast(shape):
    """Of numbers that stand for a line each, or for all of them: none is read past its end."""
    for kept in {0, len(shape) - 1}:
        x_shape = tuple(
            extent if axis == kept and len(shape) > 1 else 1 for axis, extent in enumerate(shape)
        )
        x = np.arange(1.0, np.prod(x_shape) + 1).reshape(x_shape)
        out_shape = (1,) * len(shape) if len(shape) == 1 else x_shape
        (total,) = run([("copy", 0, 1)], [x], shape, [out_shape], reduction="sum")
        np.testing.assert_array_equal(total, x * (np.prod(shape) // np.prod(x_shape)))


@pytest.mark.parametrize("reduction", ["none", "sum"])
@pytest.mark.parametrize("shape", [(500, 0), (0, 900), (0, 30, 900), (30, 0, 900), (30, 900, 0)])
def test_an_empty_space_that_is_part_of_an_array(shape, reduction):
    """Literals have no register there. A sanitizer build shows that none is filled."""
    frame = np.full([extent + 9 for extent in shape], 7.0)
    part = frame[tuple(slice(extent) for extent in shape)]
    words = words_of([("add", 0, 1, 2)], literals=[(1.0, 0)], reduction=reduction)
    out = part if reduction == "none" else np.full([min(extent, 1) for extent in shape], np.nan)
    _native.run_map(words, [out], [part], shape, 1)
    assert np.all(frame == 7)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize(
    ("x_shape", "y_shape"),
    [
        ((40, 30), (1, 30)),
        ((40, 30), (40, 1)),
        ((40, 1), (1, 30)),
        ((3, 1, 700), (1, 5, 700)),
        ((3, 5, 1), (1, 5, 700)),
        ((6, 1, 4, 1), (1, 5, 1, 3)),
        ((1, 1), (5, 2000)),
    ],
)
def test_broadcast_inputs_in_every_layout(dtype, x_shape, y_shape, rng):
    x = rng.integers(-9, 9, x_shape).astype(dtype)
    y = rng.integers(-9, 9, y_shape).astype(dtype)
    shape = np.broadcast_shapes(x_shape, y_shape)
    for x_view, y_view in zip(layouts(x), layouts(y), strict=True):
        if not (x_view.flags.aligned and x_view.dtype.isnative):
            continue
        (out,) = run([("subtract", 0, 1, 2)], [x_view, y_view], shape, [shape], dtype=dtype)
        assert_same_bits(out, x - y)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("shape", [(40, 30), (3, 5000), (1, 7), (2000, 3), (4, 6, 33)])
def test_a_number_for_each_row_is_added(dtype, shape, rng):
    """By the first instruction, on either side of it, whether others read it as well or not."""
    x = rng.integers(-9, 9, shape).astype(dtype)
    numbers = rng.integers(-9, 9, (*shape[:-1], 2)).astype(dtype)[..., 1:]
    programs = [
        ([("add", 0, 1, 2)], x + numbers),
        ([("add", 0, 2, 1)], x + numbers),
        ([("add", 3, 2, 1), ("relu", 0, 3)], np.maximum(x + numbers, 0)),
        ([("add", 3, 1, 2), ("multiply", 0, 3, 2)], (x + numbers) * numbers),
        ([("add", 3, 1, 1), ("add", 0, 3, 2)], 2 * x + numbers),
        ([("add", 0, 2, 2)], np.broadcast_to(2 * numbers, shape)),
    ]
    for instructions, expected in programs:
        (out,) = run(instructions, [x, numbers], shape, [shape], dtype=dtype, temps=1)
        assert_same_bits(out, expected)
    (out,) = run(programs[0][0], [x, numbers.astype("i4")], shape, [shape], dtype=dtype)
    assert_same_bits(out, x + numbers)
    for axis in (0, -1):  # small integers: any order of summation gives the same
        total = (x + numbers).sum(axis, keepdims=True)
        options = {"dtype": dtype, "reduction": "sum"}
        (out,) = run(programs[0][0], [x, numbers], shape, [total.shape], **options)
        assert_same_bits(out, total.astype(dtype))
    frame = x.copy()
    words = words_of(programs[2][0], dtype=dtype, n_in=2, temps=1)
    _native.run_map(words, [frame], [frame, numbers], shape, 1)
    assert_same_bits(frame, np.maximum(x + numbers, 0))


@pytest.mark.parametrize("dtype", REALS)
def test_inputs_of_every_dtype_are_converted(dtype, rng):
    for kind in (np.float32, np.float64, np.uint8, np.int32, np.int64, np.bool_):
        x = rng.integers(0, 200, (37, 60)).astype(kind)
        for view in (x, x[::2, ::3], x[::-1, ::-1], x.T):
            (out,) = run([("copy", 0, 1)], [view], view.shape, [view.shape], dtype=dtype)
            assert_same_bits(out, view.astype(dtype))


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("shape", [(300, 257), (16, 2000), (5, 700), (1100, 20), (3, 130, 250)])
def test_transposed_inputs_and_outputs(dtype, shape, rng):
    """By strips of rows, whole or not, of which a transposed array has elements side by side."""
    x = rng.integers(-9, 9, shape).astype(dtype)
    frame = np.full((*shape[:-2], shape[-1], shape[-2] + 3), np.nan, dtype)
    difference = np.swapaxes(frame[..., 1:-2], -1, -2)
    words = words_of([("add", 0, 2, 3), ("subtract", 1, 2, 3)], dtype=dtype, n_out=2, n_in=2)
    sums = words_of(
        [("add", 0, 2, 3), ("subtract", 1, 2, 3)],
        dtype=dtype, n_out=2, n_in=2, reduction="sum", n_reduced=1,
    )  # fmt: skip
    for kind in (dtype, np.float32, np.float64, np.uint8, np.int64):
        y = np.swapaxes(rng.integers(0, 9, np.swapaxes(x, -1, -2).shape).astype(kind), -1, -2)
        for view in (y, y[..., ::-1, :], y[..., ::-1], np.broadcast_to(y[..., :1], shape)):
            for threads in THREADS:
                total, added = np.full((1,) * len(shape), np.nan, dtype), np.full_like(x, np.nan)
                with team(threads):
                    for program, first in ((words, added), (sums, total)):
                        difference[...] = np.nan
                        _native.run_map(program, [first, difference], [x, view], shape, 1)
                        assert_same_bits(np.ascontiguousarray(difference), (x - view).astype(dtype))
                assert_same_bits(added, (x + view).astype(dtype))
                assert total.item() == (x + view).sum()
    difference[...] = np.nan
    assert np.isnan(frame).all()


def test_transposed_inputs_beyond_the_caches(rng):
    """Where outputs are streamed past them."""
    x, y = rng.standard_normal((2100, 1900)), rng.standard_normal((1900, 2100))
    for threads in THREADS:
        with team(threads):
            (out,) = run([("add", 0, 1, 2)], [x, y.T], x.shape, [x.shape])
        assert_same_bits(out, x + y.T)


def test_a_transposed_output_may_be_an_input(rng):
    """As the state of an optimiser beside parameters in another order."""
    x, y = rng.standard_normal((300, 257)), rng.standard_normal((257, 300)).T
    state, total = y.copy(order="F"), np.full_like(x, np.nan)
    words = words_of([("add", 0, 2, 3), ("multiply", 1, 2, 3)], n_out=2, n_in=2)
    _native.run_map(words, [total, state], [x, state], x.shape, 1)
    assert_same_bits(total, x + y)
    assert_same_bits(np.ascontiguousarray(state), x * y)


@pytest.mark.parametrize("dtype", REALS)
def test_outputs_of_any_stride(dtype, rng):
    """Only the output's own elements are written."""
    x, y = rng.standard_normal((2, 41, 300)).astype(dtype)
    words = words_of([("add", 0, 1, 2)], dtype=dtype, n_in=2)
    frame = np.empty((90, 700), dtype)
    for view in (
        frame[:41, :300],
        frame[5:87:2, 3:603:2],
        frame[40::-1, 299::-1],
        frame.T[:41, :90],
    ):
        frame[...] = 7
        a, b = x[:, : view.shape[1]], y[:, : view.shape[1]]
        _native.run_map(words, [view], [a, b], view.shape, 1)
        assert_same_bits(np.ascontiguousarray(view), a + b)
        view[...] = 7
        assert np.all(frame == 7)


@pytest.mark.parametrize("cols", [10, 3000])
def test_an_output_may_be_an_input_that_is_read_after_it_is_written(cols, rng):
    """r0 = x + y; r0 = r0 * x where r0 is x."""
    x, y = rng.standard_normal((2, 5, cols))
    words = words_of([("add", 0, 1, 2), ("multiply", 0, 0, 1)], n_in=2)
    expected = (x + y) * x
    _native.run_map(words, [x], [x, y], x.shape, 1)
    assert_same_bits(x, expected)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("instruction", ["relu", "copysign", "tanh"])
@pytest.mark.parametrize(
    "shape", [(8192,), (8193,), (100_003,), (3, 9001), (2, 3, 10_007), (40_000, 1)]
)
def test_rows_of_many_blocks_that_one_call_takes(dtype, instruction, shape, rng):
    """Blocks that one call takes give the bits of single ones, and nothing beside them changes."""
    wide = rng.standard_normal((*shape[:-1], shape[-1] + 5)).astype(dtype)
    x, y = wide[..., 2:-3], rng.standard_normal(shape).astype(dtype)
    arity = 2 if instruction == "copysign" else 1
    words = words_of([(instruction, 0, *range(1, 1 + arity))], dtype=dtype, n_in=arity)
    by_blocks = words_of(  # of two instructions none takes more than a block
        [(instruction, 0, *range(1, 1 + arity)), ("copy", 0, 0)], dtype=dtype, n_in=arity
    )
    expected = np.empty(shape, dtype)
    _native.run_map(by_blocks, [expected], [x, y][:arity], shape, 1)
    reference = {"relu": lambda x, _: np.maximum(x, 0), "copysign": np.copysign}
    if instruction in reference:
        np.testing.assert_array_equal(expected, reference[instruction](x, y))
    for threads in THREADS:
        with team(threads):
            out = np.full_like(wide, np.nan)
            _native.run_map(words, [out[..., 2:-3]], [x, y][:arity], shape, 1)
            assert_same_bits(np.ascontiguousarray(out[..., 2:-3]), expected)
            assert np.isnan(np.delete(out, np.s_[2:-3], -1)).all()
            out = wide.copy()
            view = out[..., 2:-3]
            _native.run_map(words, [view], [view, y][:arity], shape, 1)
            assert_same_bits(np.ascontiguousarray(view), expected)
            assert_same_bits(np.delete(out, np.s_[2:-3], -1), np.delete(wide, np.s_[2:-3], -1))


SPACES = [
    (1,),
    (5,),
    (1023,),
    (8191,),
    (70_000,),
    (3, 40_000),
    (40_000, 3),
    (128, 1024),
    (2_000, 33),
    (33, 2_000),
    (1, 17),
    (17, 1),
    (0, 4),
    (4, 0),
    (30, 7, 50),
    (3, 700, 40),
    (2, 3, 4, 5, 6, 7),
]
REFERENCE = {"sum": np.sum, "mean": np.mean, "max": np.max, "min": np.min}
EMPTY = {"sum": 0.0, "mean": np.nan, "max": -np.inf, "min": np.inf}


def reduced_shapes(shape):
    """Every choice of axes to reduce, at least one, with the shape that is left."""
    for kept in itertools.product([False, True], repeat=len(shape)):
        if not all(kept):
            axes = tuple(axis for axis, keep in enumerate(kept) if not keep)
            left = tuple(n if keep else 1 for n, keep in zip(shape, kept, strict=True))
            yield axes, left


def reduced(reduction, values, axes):
    if 0 in [values.shape[axis] for axis in axes]:
        left = [1 if axis in axes else n for axis, n in enumerate(values.shape)]
        return np.full(left, EMPTY[reduction])
    return REFERENCE[reduction](values, axes, keepdims=True)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("reduction", ["sum", "mean", "max", "min"])
@pytest.mark.parametrize("shape", SPACES)
def test_reductions_over_every_choice_of_axes(dtype, reduction, shape, rng):
    """Of an array as it is, which is read in place, and of a computed one."""
    x = rng.standard_normal(shape).astype(dtype)
    y = rng.standard_normal(shape[-1:]).astype(dtype)
    for axes, left in reduced_shapes(shape):
        wide = x.astype(np.longdouble)
        count = x.size / max(np.prod(left), 1)
        scale = np.abs(wide).max(initial=1) * (count if reduction == "sum" else 1)
        (copied,) = run([("copy", 0, 1)], [x], shape, [left], dtype=dtype, reduction=reduction)
        expected = reduced(reduction, wide, axes)
        assert_close(copied, expected, ulps=1, scale=scale)
        (computed,) = run(
            [("multiply", 0, 1, 2)], [x, y], shape, [left], dtype=dtype, reduction=reduction
        )
        product = (x * y).astype(np.longdouble)
        scale = scale * np.abs(y).max(initial=1)
        assert_close(computed, reduced(reduction, product, axes), ulps=1, scale=scale)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("shape", [(70_001,), (300, 200), (5000, 10), (10, 5000), (20, 30, 40)])
def test_reductions_are_the_same_bits_at_any_number_of_threads(dtype, shape, rng):
    x, y = rng.standard_normal((2, *shape)).astype(dtype)
    for reduction, (_, left) in itertools.product(REFERENCE, reduced_shapes(shape)):
        results = []
        for threads in THREADS:
            with team(threads):
                results.append(
                    run(
                        [("multiply", 0, 2, 3), ("copy", 1, 3)],
                        [x, y],
                        shape,
                        [left, left],
                        dtype=dtype,
                        reduction=reduction,
                    )
                )
        for result in results[1:]:
            for actual, expected in zip(result, results[0], strict=True):
                assert_same_bits(actual, expected)


@pytest.mark.parametrize("offsets", [(0, 5), (3, 0), (1, 1)])
def test_two_outputs_beyond_the_cache_may_begin_anywhere_in_a_line(offsets, rng):
    """Blocks begin with the lines of one of them."""
    x = np.resize(rng.standard_normal(99_991), (1, 5 << 20))
    frame = np.full((2, x.size + 16), 7.0)
    outputs = [frame[i : i + 1, offset : offset + x.size] for i, offset in enumerate(offsets)]
    words = words_of([("square", 0, 2), ("tanh", 1, 2)], n_out=2)
    with team(3):
        _native.run_map(words, outputs, [x], x.shape, 1)
    assert_same_bits(outputs[0], x * x)
    np.testing.assert_allclose(outputs[1], np.tanh(x), rtol=1e-14)
    for row, offset in zip(frame, offsets, strict=True):
        assert np.all(row[:offset] == 7)
        assert np.all(row[offset + x.size :] == 7)


def test_reductions_beyond_the_cache_are_the_same_bits_wherever_arrays_lie(rng):
    """What is streamed begins with a line of its output, and sums are cut alike all the same."""
    x = np.resize(rng.standard_normal(99_991), (1, 5 << 20))
    frame = np.empty((2, x.size + 8))
    program = [("square", 0, 2), ("tanh", 1, 2)]
    words = words_of(program, n_out=2, reduction="sum", n_reduced=1)
    results = []
    for offset in (0, 1, 6):
        total, values = frame[:1, offset : offset + 1], frame[1:, offset : offset + x.size]
        _native.run_map(words, [total, values], [x], x.shape, 1)
        results.append((total.copy(), values.copy()))
    assert results[0][0] == pytest.approx(np.sum(x**2), rel=1e-12)
    np.testing.assert_allclose(results[0][1], np.tanh(x), rtol=1e-14)
    for result in results[1:]:
        for actual, expected in zip(result, results[0], strict=True):
            assert_same_bits(actual, expected)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("reduction", ["sum", "mean", "max", "min"])
@pytest.mark.parametrize("shape", [*SPACES, (300, 200), (5000, 10)])
def test_a_reduction_beside_an_output_that_is_none(dtype, reduction, shape, rng):
    """A loss and its gradient: (x - y)^2 reduced, and 3 (x - y) for every element."""
    x, y = rng.standard_normal((2, *shape)).astype(dtype)
    difference = x.astype(np.longdouble) - y
    steps = [("subtract", 5, 2, 3), ("square", 0, 5), ("multiply", 1, 5, 4)]
    options = {"dtype": dtype, "reduction": reduction, "n_reduced": 1, "literals": [(3.0, 0)]}
    for axes, left in reduced_shapes(shape):
        results = []
        for threads in THREADS:
            with team(threads):
                results.append(run(steps, [x, y], shape, [left, shape], temps=1, **options))
        total, scaled = results[0]
        count = x.size / max(np.prod(left), 1) if reduction == "sum" else 1
        scale = np.square(difference).max(initial=1) * count
        assert_close(total, reduced(reduction, np.square(difference), axes), ulps=4, scale=scale)
        assert_close(scaled, 3 * difference, ulps=2, scale=np.abs(difference) * 3)
        for result in results[1:]:
            assert_same_bits(result[0], total)
            assert_same_bits(result[1], scaled)


@pytest.mark.parametrize("reduction", ["sum", "min"])
def test_two_reductions_beside_an_output_that_is_none(reduction, rng):
    x = rng.standard_normal((90, 70))
    for axes, left in reduced_shapes(x.shape):
        squares, plain, negative = run(
            [("square", 0, 3), ("copy", 1, 3), ("negative", 2, 3)],
            [x], x.shape, [left, left, x.shape], reduction=reduction, n_reduced=2,
        )  # fmt: skip
        np.testing.assert_allclose(squares, reduced(reduction, x * x, axes), rtol=1e-13)
        np.testing.assert_allclose(plain, reduced(reduction, x, axes), rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(negative, -x)


def test_outputs_beside_a_reduction_may_have_any_stride(rng):
    """Rows of a block lie adjacent in a plan, and the targets do not."""
    x, y = np.asfortranarray(rng.standard_normal((500, 6))), rng.standard_normal((500, 6))
    scaled, total = np.zeros((6, 500)).T, np.zeros((1, 1))
    words = words_of(
        [("subtract", 4, 2, 3), ("square", 0, 4), ("negative", 1, 4)],
        n_out=2, n_in=2, reduction="mean", n_reduced=1, temps=1,
    )  # fmt: skip
    _native.run_map(words, [total, scaled], [x, y], x.shape, 1)
    np.testing.assert_array_equal(scaled, y - x)
    np.testing.assert_allclose(total, np.square(x - y).mean(), rtol=1e-14)


def test_what_a_reduction_does_not_take_spans_the_space(rng):
    x, y = rng.standard_normal((2, 5, 4))
    with pytest.raises(ValueError, match="output 1 of a map has extent 1 on axis 0"):
        run([("add", 0, 2, 3), ("subtract", 1, 2, 3)], [x, y], x.shape, [(1, 1), (1, 1)],
            reduction="sum", n_reduced=1)  # fmt: skip


@pytest.mark.parametrize("shape", [(300, 257), (3, 2049), (7, 8, 9, 10)])
def test_programs_are_the_same_bits_at_any_number_of_threads(shape, rng):
    x, y = rng.standard_normal(shape), rng.standard_normal((*shape[:-1], 1))
    results = []
    for threads in THREADS:
        with team(threads):
            results.append(
                run([("multiply", 2 + 1, 1, 2), ("tanh", 0, 3)], [x, y], shape, [shape], temps=1)
            )
    assert_close(results[0][0], np.tanh(x * y), ulps=4)
    for (result,) in results[1:]:
        assert_same_bits(result, results[0][0])


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("shape", [(4, 67), (67, 4), (1500, 20)])
def test_nan_passes_through_reductions(dtype, shape, rng):
    """From any place to the results that it belongs to, and to no other."""
    clean = rng.standard_normal(shape).astype(dtype)
    places = [(i % shape[0], (7 * i) % shape[1]) for i in range(0, max(shape), max(shape) // 20)]
    for (row, col), reduction in itertools.product(places, REFERENCE):
        x = clean.copy()
        x[row, col] = np.nan
        for left in ((1, shape[1]), (shape[0], 1)):
            (out,) = run([("copy", 0, 1)], [x], shape, [left], dtype=dtype, reduction=reduction)
            expected = np.zeros(shape, bool)
            expected[row, col] = True
            axis = 0 if left[0] == 1 else 1
            np.testing.assert_array_equal(np.isnan(out), expected.any(axis, keepdims=True))


def test_outputs_of_a_reduction_may_have_any_stride(rng):
    x = rng.standard_normal((600, 50))
    frame = np.full((3, 100), 7.0)
    words = words_of([("copy", 0, 1)], reduction="sum")
    _native.run_map(words, [frame[1:2, ::-2]], [x], x.shape, 1)
    expected = x.astype(np.longdouble).sum(0, keepdims=True)
    assert_close(frame[1:2, ::-2], expected, ulps=4, scale=np.abs(x).sum(0, keepdims=True))
    frame[1, ::-2] = 7
    assert np.all(frame == 7)


def test_a_float32_sum_of_many_numbers_keeps_its_accuracy():
    x = np.full((1 << 20, 3), 0.1, np.float32)
    exact = np.float64(np.float32(0.1)) * (1 << 20)
    (columns,) = run([("copy", 0, 1)], [x], x.shape, [(1, 3)], dtype=np.float32, reduction="sum")
    assert_close(columns, np.full((1, 3), exact), ulps=32)
    (total,) = run([("square", 0, 1)], [x], x.shape, [(1, 1)], dtype=np.float32, reduction="sum")
    assert_close(total, np.full((1, 1), np.float64(np.float32(0.1)) ** 2 * (3 << 20)), ulps=8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({0: 2}, "the dtype of a map program is 2, not in 0..1"),
        ({1: 0}, "the number of outputs of a map program is 0"),
        ({1: 20, 2: 20}, "a map program has 40 operands; the limit is 24"),
        ({3: 5}, "the reduction of a map program is 5"),
        ({4: 1}, "reduction 0 of a map program takes 1 of 1 outputs"),
        ({3: 1}, "reduction 1 of a map program takes 0 of 1 outputs"),
        ({3: 1, 4: 2}, "reduction 1 of a map program takes 2 of 1 outputs"),
        ({5: 17}, "the number of literals of a map program is 17"),
        ({6: -1}, "the number of temporaries of a map program is -1"),
        ({7: 3}, "a map program has 12 words, but its counts ask for 13"),
        ({9: 2}, "literal 0 of a map program has the power 2"),
        ({10: 200 | 3 << 16 | 1 << 24}, "instruction 0 of a map program has the unknown code 200"),
        (
            {10: 14 | 3 << 16 | 9 << 24},
            "program reads register 9, which",
        ),
        ({10: 14 | 3 << 16 | 3 << 24}, "reads register 3, which holds nothing yet"),
        ({10: 14 | 1 << 16 | 1 << 24}, "writes register 1, which is no output or temporary"),
        ({10: 14 | 2 << 16 | 1 << 24}, "writes register 2, which is no output or temporary"),
        ({11: 14 | 3 << 16 | 1 << 24}, "output 0 of a map program is never written"),
        ({11: 1 << 50}, "instruction 1 of a map program has bits set above its fields"),
        ({11: -1}, "instruction 1 of a map program has bits set above its fields"),
    ],
)
def test_programs_are_checked(change, message):
    words = words_of([("exp", 3, 1), ("multiply", 0, 3, 2)], literals=[(1.5, 0)], temps=1)
    x, out = np.zeros(3), np.zeros(3)
    _native.run_map(words, [out], [x], (3,), 1)
    assert np.all(out == 1.5)
    for place, word in change.items():
        words[place] = word
    with pytest.raises(DlcoreError, match=message):
        _native.run_map(words, [out], [x], (3,), 1)


def test_operands_that_an_instruction_does_not_take_are_ignored():
    """They need not be registers, and nothing is read by them."""
    x, out = np.array([1.0, -2.0, 3.0]), np.zeros(3)
    instructions = [("negative", 2, 1, 255, 200), ("multiply", 0, 2, 1, 254)]
    words = words_of(instructions, temps=1)
    _native.run_map(words, [out], [x], (3,), 1)
    assert_same_bits(out, -x * x)


def test_a_program_cut_short_is_refused():
    words = words_of([("exp", 0, 1)])
    for n in range(len(words)):
        with pytest.raises(DlcoreError, match=f"a map program has {n} words"):
            _native.run_map(words[:n], [np.zeros(3)], [np.zeros(3)], (3,), 1)


@pytest.mark.parametrize(
    ("out", "x", "message"),
    [
        (np.ones((3, 4)), np.ones((3, 5)), "operand 1 of a map has extent 5 on axis 1"),
        (np.ones((3, 4)), np.ones(4), "operand 1 of a map has 1 axes, but the space has 2"),
        (np.ones((3, 4), np.float32), np.ones((3, 4)), "output 0 of a map has dtype code 0"),
        (np.ones((3, 1)), np.ones((3, 4)), "output 0 of a map has extent 1 on axis 1"),
        (
            np.lib.stride_tricks.as_strided(np.ones(4), (3, 4), (0, 8)),
            np.ones((3, 4)),
            "output 0 of a map has stride 0 on axis 0",
        ),
    ],
)
def test_arrays_are_checked(out, x, message):
    with pytest.raises(ValueError, match=message):
        _native.run_map(words_of([("exp", 0, 1)]), [out], [x], (3, 4), 1)


def test_outputs_must_be_reduced_alike():
    words = words_of([("copy", 0, 2), ("copy", 1, 2)], n_out=2, reduction="sum")
    with pytest.raises(ValueError, match="outputs 0 and 1 of a map are not reduced over the same"):
        _native.run_map(words, [np.ones((1, 4)), np.ones((3, 1))], [np.ones((3, 4))], (3, 4), 1)


PLACES = {
    arity: [
        places for n in range(1, arity + 1) for places in itertools.combinations(range(arity), n)
    ]
    for arity in (1, 2, 3)
}


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize(
    ("name", "places"),
    [
        pytest.param(name, places, id=f"{name} {places}")
        for name, (_, arity) in _native.map_instructions().items()
        for places in PLACES[arity]
    ],
)
def test_a_literal_in_any_place_is_an_array_of_it(name, places, dtype, rng):
    """Bit by bit: kernels that take numbers as such compute what they compute of arrays."""
    arity = _native.map_instructions()[name][1]
    shape = (2051,)
    arrays = [rng.uniform(0.2, 0.9, shape).astype(dtype) for _ in range(arity)]
    literals = []
    registers = []
    inputs = []
    for place in range(arity):
        if place in places:
            number = 0.25 + 0.375 * place + (name == "arccosh")  # exact in both dtypes
            arrays[place] = np.full(shape, number, dtype)
            literals.append((number, 0))
            registers.append(("literal", len(literals) - 1))
        else:
            inputs.append(arrays[place])
            registers.append(("input", len(inputs) - 1))
    first = {"input": 1, "literal": 1 + len(inputs)}
    operands = [first[kind] + index for kind, index in registers]
    (got,) = run([(name, 0, *operands)], inputs, shape, [shape], dtype=dtype, literals=literals)
    (expected,) = run([(name, 0, *range(1, 1 + arity))], arrays, shape, [shape], dtype=dtype)
    assert_same_bits(got, expected)
    assert not np.all(np.isnan(expected))
