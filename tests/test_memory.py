"""Arrays as the native core wants them."""

import numpy as np
import pytest

from dlcore.memory import aligned_empty, native_array


@pytest.mark.parametrize("dtype", ["f4", "f8", "u1", "i8", "?"])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0, 2), (5, 7), (1001,), (2,) * 9])
def test_aligned_arrays(shape, dtype):
    arrays = [aligned_empty(shape, dtype) for _ in range(4)]
    for i, array in enumerate(arrays):
        assert array.shape == shape
        assert array.dtype == dtype
        assert array.ctypes.data % 64 == 0
        assert array.flags.c_contiguous
        assert array.flags.writeable
        array[...] = i % 2
    for i, array in enumerate(arrays):
        np.testing.assert_array_equal(array, np.full(shape, i % 2, dtype))


def test_aligned_arrays_beyond_memory_and_axes():
    for shape in ((1 << 62, 4), (1 << 40, 1 << 40), (1 << 61,)):
        with pytest.raises(MemoryError):
            aligned_empty(shape, "f8")
    with pytest.raises(ValueError, match="shape has 33 axes; the limit is 32"):
        aligned_empty((1,) * 33, "f4")


@pytest.mark.parametrize("dtype", ["f4", "f8", "u1", "i4", "i8", "?"])
def test_arrays_in_another_order_are_copied_to_c_order(dtype):
    x = np.random.default_rng(0).integers(0, 99, (70, 300, 4)).astype(dtype)
    deep = x[:2, :2, :2].reshape((2, 2, 2) + (1,) * 6)
    views = [x.T, x[:, ::-1], x[::2, 3:, 1:], np.broadcast_to(x[:, :1], x.shape), x[:, :, 0].T]
    for view in (*views, deep.T, x[:, :0].T):
        copied = native_array(view, "x")
        assert copied.flags.c_contiguous
        assert copied.dtype == view.dtype
        np.testing.assert_array_equal(copied, view)


def test_arrays_that_plans_read_are_returned_as_they_are():
    for dtype in ("f4", "f8", "u1", "i4", "i8", "?"):
        array = np.zeros((3, 2), dtype)
        assert native_array(array, "x") is array
    for other in (array.T, array.astype(">f4"), array[::2]):
        converted = native_array(other, "x")
        assert converted is not other
        assert converted.flags.c_contiguous
        np.testing.assert_array_equal(converted, other)
