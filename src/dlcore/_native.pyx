"""The native library itself: its status as exceptions, map programs, random numbers, threads."""

cimport numpy as cnp
from libc.stdint cimport uint32_t, uint64_t
from libcpp cimport bool as cbool

import numpy as np

from dlcore._arrays cimport (
    check_overlap,
    checked_out,
    describe,
    is_plain,
    is_real,
    is_traced,
    native_dtype,
    real_array,
    result_of,
    same_array,
)
from dlcore.errors import DlcoreError

cnp.import_array()


cdef extern from "threads.h" nogil:
    int32_t dlc_openmp_date()
    void dlc_set_serial_threshold(int64_t cost)
    int64_t dlc_get_serial_threshold()


cdef extern from "rng/philox.h" nogil:
    void dlc_philox_block(uint32_t *out, const uint32_t *counter, const uint32_t *key)


cdef extern from "plan/plan.h" nogil:
    dlc_status dlc_shuffle(int64_t *order, int64_t n, uint64_t seed, uint64_t epoch)


cdef extern from "map/map.h" nogil:
    enum:
        DLC_MAP_OP_COUNT
        DLC_MAP_MAX_OPERANDS


cdef extern from "ops.h" nogil:
    dlc_status dlc_map_instruction_info(const char **name, int32_t *arity, int32_t op)
    dlc_status dlc_apply(const dlc_array *out, int32_t op, const dlc_array *inputs, bint out_is_new)
    dlc_status dlc_run_map(const int64_t *words, int64_t n_words, const dlc_array *arrays, int32_t n_arrays,
                           const int64_t *shape, int32_t ndim, int64_t rows)
    dlc_status dlc_random_fill(int32_t dtype, void *out, int64_t n, int32_t kind, double keep, uint64_t seed,
                               uint32_t stream, uint64_t step)
    int32_t dlc_team_size(int32_t requested)
    dlc_status dlc_bfloat16_kind(const char **kind)
    enum:
        DLC_RANDOM_FILL_UNIFORM
        DLC_RANDOM_FILL_NORMAL
        DLC_RANDOM_FILL_KEEP_MASK


cdef int check(dlc_status status) except -1:
    if status == DLC_OK:
        return 0
    message = dlc_last_error().decode("utf-8", "replace")
    if status == DLC_INVALID_ARGUMENT:
        raise ValueError(message)
    if status == DLC_OUT_OF_MEMORY:
        raise MemoryError(message)
    if status == DLC_OVERFLOW:
        raise OverflowError(message)
    raise DlcoreError(message)


# Traced arrays: within a function that is traced, the result is a graph node.

def is_traced_array(value):
    """Whether it is a node of a function that is being traced."""
    return is_traced(value)


# Elementwise functions.

def _instructions():
    cdef const char *name
    cdef int32_t op, arity
    table = {}
    for op in range(DLC_MAP_OP_COUNT):
        check(dlc_map_instruction_info(&name, &arity, op))
        table[name.decode()] = (op, arity)
    return table


_INSTRUCTIONS = _instructions()


def map_instructions():
    """The instructions of map programs: name -> (code, arity)."""
    return dict(_INSTRUCTIONS)


def apply(str name, *inputs, out=None):
    """Any instruction, by name, on arrays that broadcast; Python numbers take the arrays' dtype."""
    cdef dlc_array out_view
    cdef dlc_array[3] views
    cdef cnp.npy_intp[8] dims
    cdef cnp.ndarray array, result
    cdef dlc_status status
    cdef bint is_new = out is None
    cdef int op, arity, i, axis, ndim = 0, number = cnp.NPY_FLOAT32
    op, arity = _INSTRUCTIONS[name]
    if len(inputs) != arity:
        raise TypeError(f"{name} takes {arity} arrays, but {len(inputs)} came")
    arrays = []
    weak = [type(x) is float or type(x) is int for x in inputs]
    for i in range(arity):
        array = real_array(float(inputs[i]) if weak[i] else inputs[i], f"input {i}")
        describe(&views[i], array, f"input {i}")
        arrays.append(array)
        ndim = max(ndim, views[i].ndim)
        if views[i].dtype == DLC_FLOAT64 and (not weak[i] or all(weak)):
            number = cnp.NPY_FLOAT64
    for axis in range(ndim):
        dims[axis] = 1
    for i in range(arity):
        for axis in range(views[i].ndim):
            if views[i].shape[axis] == 1:
                continue
            if dims[ndim - views[i].ndim + axis] not in (1, views[i].shape[axis]):
                raise ValueError(f"the inputs have shapes {[a.shape for a in arrays]}, which do not broadcast")
            dims[ndim - views[i].ndim + axis] = views[i].shape[axis]
    if is_new:
        result = cnp.PyArray_EMPTY(ndim, dims, number, 0)
    else:
        result = checked_out(out, ndim, dims, number)
        for i in range(arity):
            if not same_array(result, arrays[i]):
                check_overlap(result, arrays[i], f"input {i}")
    describe(&out_view, result, "out")
    with nogil:
        status = dlc_apply(&out_view, op, views, is_new)
    check(status)
    return result_of(result, is_new)


def run_map(words, outputs, inputs, shape, rows):
    """Any map program over a space of this shape; outputs are written in place."""
    cdef cnp.ndarray array, program = np.ascontiguousarray(words, np.int64)
    cdef cnp.ndarray space = np.array(shape, np.int64)
    cdef dlc_array[DLC_MAP_MAX_OPERANDS] views
    cdef dlc_status status
    cdef int64_t n_words = program.size, rows_ = rows
    cdef int32_t i, n_arrays = len(outputs) + len(inputs), ndim = len(shape)
    if n_arrays > DLC_MAP_MAX_OPERANDS:
        raise ValueError(f"{n_arrays} arrays came; the limit is {DLC_MAP_MAX_OPERANDS}")
    for i, array in enumerate([*outputs, *inputs]):
        if not is_plain(array):
            raise ValueError(f"array {i} is not aligned, or not in this machine's byte order")
        if i < len(outputs) and not cnp.PyArray_ISWRITEABLE(array):
            raise ValueError(f"output {i} is read-only")
        describe(&views[i], array, f"array {i}")
    cdef const int64_t *word = <const int64_t *>cnp.PyArray_DATA(program)
    cdef const int64_t *extent = <const int64_t *>cnp.PyArray_DATA(space)
    with nogil:
        status = dlc_run_map(word, n_words, views, n_arrays, extent, ndim, rows_)
    check(status)


# Random numbers.

_RANDOM_KINDS = {
    "uniform": DLC_RANDOM_FILL_UNIFORM,
    "normal": DLC_RANDOM_FILL_NORMAL,
    "keep_mask": DLC_RANDOM_FILL_KEEP_MASK,
}


def random(kind, shape, dtype, seed, uint32_t stream, uint64_t step, double keep=1.0):
    """The random array of this kind ("uniform", "normal", "keep_mask") keyed by (seed, stream, step)."""
    if kind not in _RANDOM_KINDS:
        raise ValueError(f"kind is {kind!r}; expected one of {', '.join(_RANDOM_KINDS)}")
    cdef cnp.ndarray result = np.empty(shape, dtype)
    if not is_real(cnp.PyArray_TYPE(result)):
        raise TypeError(f"dtype is {result.dtype}; expected float32 or float64")
    cdef int32_t code = _RANDOM_KINDS[kind], real = native_dtype(result)
    cdef int64_t n = cnp.PyArray_SIZE(result)
    cdef uint64_t key = seed & 0xFFFFFFFFFFFFFFFF
    cdef void *data = cnp.PyArray_DATA(result)
    cdef dlc_status status
    with nogil:
        status = dlc_random_fill(real, data, n, code, keep, key, stream, step)
    check(status)
    return result


def shuffle(n, seed, epoch):
    """The permutation of 0..n-1 that orders this epoch under this seed, as int64."""
    orders = np.empty((1, n), np.int64)
    shuffle_epochs(orders, seed, epoch)
    return orders[0]


def shuffle_epochs(int64_t[:, ::1] orders, seed, epoch):
    """Row i of ``orders`` (epochs, n) becomes the permutation of 0..n-1 that orders epoch + i."""
    cdef int64_t i, n = orders.shape[1]
    cdef uint64_t key = seed & 0xFFFFFFFFFFFFFFFF, first = epoch
    if n == 0:
        return
    cdef dlc_status status = DLC_OK
    with nogil:
        for i in range(orders.shape[0]):
            status = dlc_shuffle(&orders[i, 0], n, key, first + <uint64_t>i)
            if status != DLC_OK:
                break
    check(status)


def philox_block(counter, key):
    """One block of Philox4x32-10: four words of 32 bits from a counter of four and a key of two."""
    cdef uint32_t[4] out
    cdef uint32_t[4] words = counter
    cdef uint32_t[2] key_words = key
    dlc_philox_block(out, words, key_words)
    return tuple(out)


# The machine.

def version():
    """The version of the native library."""
    return dlc_version().decode()


def isa_name():
    """The kernel table in use, such as "x86-64-v4".

    Raises
    ------
    DlcoreError, ValueError
        If the environment variable ``DLCORE_ISA`` names one that does not exist or run here.
    """
    cdef const char *name
    check(dlc_isa_name(&name))
    return name.decode()


def isa_available():
    """The kernel tables that run on this machine, best first."""
    return dlc_isa_available().decode().split()


def bfloat16_kind():
    """What computes products with ``compute="bfloat16"``: "amx", "native" or "emulated"."""
    cdef const char *kind
    check(dlc_bfloat16_kind(&kind))
    return kind.decode()


def set_num_threads(n):
    """Sets the largest number of threads that dlcore uses; 0 means the default again.

    Parameters
    ----------
    n : int

    Raises
    ------
    ValueError
        If n is negative or beyond any machine.

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.set_num_threads(1)
    >>> dl.get_num_threads()
    1
    >>> dl.set_num_threads(0)
    """
    check(dlc_set_num_threads(n))


def get_num_threads():
    """The largest number of threads that dlcore uses now.

    What :func:`set_num_threads` set, else the smallest of OpenMP's limit (``OMP_NUM_THREADS``,
    threadpoolctl), the cores that the process may run on, and the CPU quota of its cgroup.
    The cores are asked of the system at most once in a few milliseconds.

    Returns
    -------
    int
    """
    return dlc_get_num_threads()


def set_serial_threshold(int64_t cost):
    """Sets the cost, in about flops, under which a call stays on one thread; for tests."""
    dlc_set_serial_threshold(cost)


def get_serial_threshold():
    """The cost, in about flops, under which a call stays on one thread."""
    return dlc_get_serial_threshold()


def openmp_version():
    """The date of the OpenMP specification that the library was built with, "201511" say."""
    return str(dlc_openmp_date())


def team_size(int32_t requested):
    """The size of a team that is started for this many threads; for tests."""
    cdef int32_t size
    with nogil:
        size = dlc_team_size(requested)
    return size
