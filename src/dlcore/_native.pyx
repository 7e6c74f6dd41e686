"""The bridge to libdlcore: converts arrays, releases the GIL, and turns a status into an exception.

Nothing is computed here. The public functions, with their documentation, are in dlcore.ops.
"""

cimport cython
cimport numpy as cnp
from libc.math cimport pow, sqrt
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp, memset

import numpy as np

from dlcore.errors import DlcoreError

cnp.import_array()


cdef extern from "numpy/arrayobject.h":
    object PyArray_NewLikeArray(cnp.ndarray prototype, cnp.NPY_ORDER order, void *descr, int subok)


cdef extern from "threads.h" nogil:
    int32_t dlc_openmp_date()
    void dlc_set_serial_threshold(int64_t cost)
    int64_t dlc_get_serial_threshold()


cdef extern from "rng/philox.h" nogil:
    void dlc_philox_block(uint32_t *out, const uint32_t *counter, const uint32_t *key)


cdef extern from "plan/plan.h" nogil:
    void dlc_shuffle(int64_t *order, int64_t n, uint64_t seed, uint64_t epoch)


cdef extern from "map/map.h" nogil:
    enum:
        DLC_MAP_COPY
        DLC_MAP_OP_COUNT
        DLC_MAP_MAX_OPERANDS


cdef extern from "ops.h" nogil:
    enum:
        DLC_STEP_SGD
        DLC_STEP_ADAM

    ctypedef struct dlc_step_arrays:
        void *param
        void *states[3]
        const void *grad

    ctypedef struct dlc_step_options:
        double weight_decay
        bint decoupled
        double own[4]

    dlc_status dlc_map_instruction_info(const char **name, int32_t *arity, int32_t op)
    dlc_status dlc_matmul_shape(int64_t *shape, int32_t *ndim, const dlc_array *a, const dlc_array *b)
    dlc_status dlc_linear(const dlc_array *out, const dlc_array *x, const dlc_array *w, const dlc_array *b,
                          int32_t activation, double parameter)
    dlc_status dlc_apply(const dlc_array *out, int32_t op, const dlc_array *inputs)
    dlc_status dlc_run_map(const int64_t *words, int64_t n_words, const dlc_array *arrays, int32_t n_arrays,
                           const int64_t *shape, int32_t ndim, int64_t rows)
    dlc_status dlc_softmax(const dlc_array *out, const dlc_array *x, bint logarithm)
    dlc_status dlc_elementwise_loss(double *loss, int32_t kind, const dlc_array *pred, const dlc_array *target,
                                    const dlc_array *weight, double delta)
    dlc_status dlc_cross_entropy(double *loss, const dlc_array *logits, const dlc_array *target,
                                 const dlc_array *weight)
    dlc_status dlc_optimizer_step(int32_t dtype, int32_t kind, const dlc_step_arrays *arrays,
                                  const dlc_step_options *options, const double *scalars, int64_t n)
    dlc_status dlc_random_fill(int32_t dtype, void *out, int64_t n, int32_t kind, double keep, uint64_t seed,
                               uint32_t stream, uint64_t step)
    int32_t dlc_team_size(int32_t requested)
    enum:
        DLC_LOSS_MSE
        DLC_LOSS_MAE
        DLC_LOSS_HUBER
        DLC_LOSS_BINARY_CROSS_ENTROPY
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


# Arrays.

cdef int native_dtype(cnp.ndarray array) noexcept:
    """The dlc_dtype of an array, or -1 where the core has none."""
    cdef int number = cnp.PyArray_TYPE(array)
    if number == cnp.NPY_FLOAT32:
        return DLC_FLOAT32
    if number == cnp.NPY_FLOAT64:
        return DLC_FLOAT64
    if number == cnp.NPY_UINT8:
        return DLC_UINT8
    if number == cnp.NPY_BOOL:
        return DLC_BOOL
    cdef Py_ssize_t size = cnp.PyArray_ITEMSIZE(array)
    if cnp.PyTypeNum_ISSIGNED(number) and not cnp.PyTypeNum_ISFLOAT(number):  # long is int32 or int64
        return DLC_INT32 if size == 4 else DLC_INT64 if size == 8 else -1
    return -1


cdef bint is_real(int number) noexcept:
    return number == cnp.NPY_FLOAT32 or number == cnp.NPY_FLOAT64


cdef bint is_plain(cnp.ndarray array) noexcept:
    """Whether the core can read an array as it lies: aligned, in this machine's byte order."""
    return cnp.PyArray_ISALIGNED(array) and cnp.PyArray_ISNOTSWAPPED(array)


cdef cnp.ndarray plain_array(object value):
    cdef cnp.ndarray array = value if cnp.PyArray_CheckExact(value) else np.asarray(value)
    if not is_plain(array):
        array = np.array(array, array.dtype.newbyteorder("="), order="K")
    return array


cdef cnp.ndarray real_array(object value, str name):
    cdef cnp.ndarray array = plain_array(value)
    if not is_real(cnp.PyArray_TYPE(array)):
        raise TypeError(f"{name} has dtype {array.dtype}; expected float32 or float64")
    return array


cdef int describe(dlc_array *view, cnp.ndarray array, str name) except -1:
    """view = array, which is plain and of a dtype that the core knows."""
    cdef int axis, ndim = cnp.PyArray_NDIM(array)
    cdef cnp.npy_intp size = cnp.PyArray_ITEMSIZE(array)
    if ndim > DLC_MAX_NDIM:
        raise ValueError(f"{name} has {ndim} axes; the limit is {DLC_MAX_NDIM}")
    view.data = cnp.PyArray_DATA(array)
    view.dtype = native_dtype(array)
    view.ndim = ndim
    for axis in range(ndim):
        view.shape[axis] = cnp.PyArray_DIM(array, axis)
        view.stride[axis] = cnp.PyArray_STRIDE(array, axis) // size if view.shape[axis] > 1 else 0
    return 0


cdef bint same_extents(int ndim, const cnp.npy_intp *a, const cnp.npy_intp *b) noexcept:
    return ndim == 0 or memcmp(a, b, ndim * sizeof(cnp.npy_intp)) == 0


cdef bint same_array(cnp.ndarray a, cnp.ndarray b) noexcept:
    cdef int ndim = cnp.PyArray_NDIM(a)
    return (cnp.PyArray_DATA(a) == cnp.PyArray_DATA(b) and cnp.PyArray_NDIM(b) == ndim
            and cnp.PyArray_TYPE(a) == cnp.PyArray_TYPE(b)
            and same_extents(ndim, cnp.PyArray_DIMS(a), cnp.PyArray_DIMS(b))
            and same_extents(ndim, cnp.PyArray_STRIDES(a), cnp.PyArray_STRIDES(b)))


cdef tuple shape_of(cnp.ndarray array):
    return (<object>array).shape


cdef bint overlaps_itself(cnp.ndarray array) except -1:
    """Whether two elements may share memory: an axis does not step over all that the finer ones span."""
    cdef cnp.npy_intp span = cnp.PyArray_ITEMSIZE(array)
    if cnp.PyArray_IS_C_CONTIGUOUS(array) or cnp.PyArray_SIZE(array) == 0:
        return False
    for stride, extent in sorted(zip(np.abs((<object>array).strides).tolist(), (<object>array).shape)):
        if extent == 1:
            continue
        if stride < span:
            return True
        span = stride * extent
    return False


cdef cnp.ndarray checked_out(object out, int ndim, const cnp.npy_intp *dims, int number):
    cdef cnp.ndarray array
    cdef int i
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be a numpy.ndarray, not {type(out).__name__}")
    array = out
    if cnp.PyArray_TYPE(array) != number or not cnp.PyArray_ISNOTSWAPPED(array):
        raise TypeError(f"out has dtype {array.dtype}, but the result is {np.dtype(cnp.PyArray_DescrFromType(number))}")
    if cnp.PyArray_NDIM(array) != ndim or not same_extents(ndim, cnp.PyArray_DIMS(array), dims):
        raise ValueError(f"out has shape {out.shape}, but the result has {tuple([dims[i] for i in range(ndim)])}")
    if not cnp.PyArray_ISWRITEABLE(array):
        raise ValueError("out is read-only")
    if not cnp.PyArray_ISALIGNED(array):
        raise ValueError("out is not aligned to its elements")
    if overlaps_itself(array):
        raise ValueError("elements of out share memory")
    return array


cdef int check_overlap(cnp.ndarray out, cnp.ndarray array, str name) except -1:
    # Past max_work it answers yes: such strides do not come up by accident.
    if np.may_share_memory(out, array, max_work=100_000):
        raise ValueError(f"out overlaps {name}")
    return 0


cdef object result_of(cnp.ndarray array, bint is_own):
    """The array, or a scalar where NumPy's functions give one."""
    return array[()] if is_own and cnp.PyArray_NDIM(array) == 0 else array


# Traced arrays: within a function that is traced, the result is a graph node.

cdef bint is_traced(object value):
    return not cnp.PyArray_CheckExact(value) and hasattr(type(value), "__dlcore_traced__")


def is_traced_array(value):
    """Whether it is a node of a function that is being traced."""
    return is_traced(value)


cdef object traced(str function, tuple arguments, object out=None):
    from dlcore.graph import traced_ops

    return traced_ops.run(function, *arguments, out=out)


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
_NAMES = list(_INSTRUCTIONS)


def map_instructions():
    """The instructions of map programs: name -> (code, arity)."""
    return dict(_INSTRUCTIONS)


def elementwise(int op, x, out=None, parameter=None):
    """An instruction of one array, and of a number where it takes two operands."""
    if is_traced(x):
        return traced("elementwise", (_NAMES[op], x, parameter), out)
    cdef cnp.ndarray array = real_array(x, "x")
    cdef cnp.ndarray result
    cdef dlc_array out_view
    cdef dlc_array[2] inputs
    cdef double number
    cdef dlc_status status
    describe(&inputs[0], array, "x")
    if out is None:
        result = PyArray_NewLikeArray(array, cnp.NPY_KEEPORDER, NULL, 0)
    else:
        result = checked_out(out, cnp.PyArray_NDIM(array), cnp.PyArray_DIMS(array), cnp.PyArray_TYPE(array))
        if not same_array(result, array):
            check_overlap(result, array, "x")
    describe(&out_view, result, "out")
    if parameter is not None:
        number = parameter
        inputs[1].data = &number
        inputs[1].dtype = DLC_FLOAT64
        inputs[1].ndim = 0
    with nogil:
        status = dlc_apply(&out_view, op, inputs)
    check(status)
    return result_of(result, out is None)


def apply(str name, *inputs, out=None):
    """Any instruction, by name, on arrays that broadcast; Python numbers take the arrays' dtype."""
    cdef dlc_array out_view
    cdef dlc_array[3] views
    cdef cnp.npy_intp[8] dims
    cdef cnp.ndarray array, result
    cdef dlc_status status
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
    if out is None:
        result = cnp.PyArray_EMPTY(ndim, dims, number, 0)
    else:
        result = checked_out(out, ndim, dims, number)
        for i in range(arity):
            if not same_array(result, arrays[i]):
                check_overlap(result, arrays[i], f"input {i}")
    describe(&out_view, result, "out")
    with nogil:
        status = dlc_apply(&out_view, op, views)
    check(status)
    return result_of(result, out is None)


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


# Matrix products.

cdef int transpose(dlc_array *view, str name) except -1:
    if view.ndim < 2:
        raise ValueError(f"transpose_{name} needs {name} to have 2 or more axes, but it has {view.ndim}")
    cdef int last = view.ndim - 1
    view.shape[last], view.shape[last - 1] = view.shape[last - 1], view.shape[last]
    view.stride[last], view.stride[last - 1] = view.stride[last - 1], view.stride[last]
    return 0


cdef int insert_axis(dlc_array *view, int place, str name) except -1:
    cdef int axis
    if view.ndim == DLC_MAX_NDIM:
        raise ValueError(f"the product of a and b, as matrices, has more than {DLC_MAX_NDIM} axes")
    for axis in range(view.ndim, place, -1):
        view.shape[axis] = view.shape[axis - 1]
        view.stride[axis] = view.stride[axis - 1]
    view.shape[place] = 1
    view.stride[place] = 0
    view.ndim += 1
    return 0


cdef cnp.ndarray as_double(cnp.ndarray array):
    if cnp.PyArray_TYPE(array) == cnp.NPY_FLOAT64:
        return array
    return cnp.PyArray_Cast(array, cnp.NPY_FLOAT64)


def matmul(a, b, bint transpose_a=False, bint transpose_b=False, out=None):
    """See dlcore.ops.matmul."""
    if is_traced(a) or is_traced(b):
        return traced("matmul", (a, b, transpose_a, transpose_b), out)
    cdef cnp.ndarray left = real_array(a, "a"), right = real_array(b, "b"), result
    cdef dlc_array a_view, b_view, out_view
    cdef int64_t[8] shape
    cdef cnp.npy_intp[8] dims
    cdef int32_t axis, matrix_ndim, ndim = 0
    cdef bint a_is_vector = cnp.PyArray_NDIM(left) == 1, b_is_vector = cnp.PyArray_NDIM(right) == 1
    cdef dlc_status status
    if cnp.PyArray_TYPE(left) != cnp.PyArray_TYPE(right):
        left, right = as_double(left), as_double(right)
    describe(&a_view, left, "a")
    describe(&b_view, right, "b")
    if a_view.ndim == 0 or b_view.ndim == 0:
        raise ValueError(f"{'a' if a_view.ndim == 0 else 'b'} has no axes; a matrix product needs 1 or more")
    if transpose_a:
        transpose(&a_view, "a")
    if transpose_b:
        transpose(&b_view, "b")
    if a_is_vector:
        insert_axis(&a_view, 0, "a")
    if b_is_vector:
        insert_axis(&b_view, 1, "b")
    check(dlc_matmul_shape(shape, &matrix_ndim, &a_view, &b_view))
    for axis in range(matrix_ndim):
        if not (axis == matrix_ndim - 2 and a_is_vector) and not (axis == matrix_ndim - 1 and b_is_vector):
            dims[ndim] = shape[axis]
            ndim += 1
    if out is None:
        result = cnp.PyArray_EMPTY(ndim, dims, cnp.PyArray_TYPE(left), 0)
    else:
        result = checked_out(out, ndim, dims, cnp.PyArray_TYPE(left))
        check_overlap(result, left, "a")
        check_overlap(result, right, "b")
    describe(&out_view, result, "out")
    if b_is_vector:
        insert_axis(&out_view, out_view.ndim, "out")
    if a_is_vector:
        insert_axis(&out_view, out_view.ndim - 1, "out")
    with nogil:
        status = dlc_matmul(&out_view, &a_view, &b_view)
    check(status)
    return result_of(result, out is None)


# activation -> instruction, and the parameter that it takes
_ACTIVATIONS = {
    "identity": ("copy", 0.0),
    "leaky_relu": ("leaky_relu", 0.01),
    "elu": ("elu", 1.0),
    **{name: (name, 0.0) for name in ("relu", "sigmoid", "tanh", "gelu", "silu", "softplus")},
}


cdef int check_ndim(cnp.ndarray array, int ndim, str name) except -1:
    if cnp.PyArray_NDIM(array) != ndim:
        raise ValueError(f"{name} has shape {shape_of(array)}; expected {ndim} {'axes' if ndim > 1 else 'axis'}")
    return 0


def linear(x, w, b=None, activation="identity", out=None):
    """See dlcore.ops.linear."""
    if activation not in _ACTIVATIONS:
        raise ValueError(f"activation is {activation!r}; expected one of {', '.join(_ACTIVATIONS)}")
    name, value = _ACTIVATIONS[activation]
    if is_traced(x) or is_traced(w) or is_traced(b):
        return traced("linear", (x, w, b, name, value), out)
    cdef cnp.ndarray x_array = real_array(x, "x"), w_array = real_array(w, "w"), result
    cdef cnp.ndarray b_array = None if b is None else real_array(b, "b")
    cdef dlc_array x_view, w_view, b_view, out_view
    cdef dlc_array *bias = NULL if b is None else &b_view
    cdef cnp.npy_intp[2] dims
    cdef dlc_status status
    cdef int number = cnp.PyArray_TYPE(x_array)
    cdef int32_t op = _INSTRUCTIONS[name][0]
    cdef double parameter = value
    if cnp.PyArray_TYPE(w_array) != number or (bias != NULL and cnp.PyArray_TYPE(b_array) != number):
        x_array, w_array = as_double(x_array), as_double(w_array)
        if bias != NULL:
            b_array = as_double(b_array)
        number = cnp.NPY_FLOAT64
    check_ndim(x_array, 2, "x")
    check_ndim(w_array, 2, "w")
    if bias != NULL:
        check_ndim(b_array, 1, "b")
    describe(&x_view, x_array, "x")
    describe(&w_view, w_array, "w")
    if bias != NULL:
        describe(&b_view, b_array, "b")
    dims[0] = x_view.shape[0]
    dims[1] = w_view.shape[1]
    if out is None:
        result = cnp.PyArray_EMPTY(2, dims, number, 0)
    else:
        result = checked_out(out, 2, dims, number)
        check_overlap(result, x_array, "x")
        check_overlap(result, w_array, "w")
        if bias != NULL:
            check_overlap(result, b_array, "b")
    describe(&out_view, result, "out")
    with nogil:
        status = dlc_linear(&out_view, &x_view, &w_view, bias, op, parameter)
    check(status)
    return result


# Softmax and losses.

cdef void move_axis_last(dlc_array *view, int axis) noexcept:
    cdef int64_t extent = view.shape[axis], stride = view.stride[axis]
    cdef int i
    for i in range(axis, view.ndim - 1):
        view.shape[i] = view.shape[i + 1]
        view.stride[i] = view.stride[i + 1]
    view.shape[view.ndim - 1] = extent
    view.stride[view.ndim - 1] = stride


def softmax(x, axis=-1, out=None, bint logarithm=False):
    """See dlcore.ops.softmax and dlcore.ops.log_softmax."""
    if is_traced(x):
        return traced("softmax", ("log_softmax" if logarithm else "softmax", x, axis), out)
    cdef cnp.ndarray array = real_array(x, "x"), result
    cdef dlc_array x_view, out_view
    cdef dlc_status status
    describe(&x_view, array, "x")
    cdef int ndim = x_view.ndim, place = axis
    if not -ndim <= place < ndim:
        raise np.exceptions.AxisError(axis, ndim)
    if place < 0:
        place += ndim
    if out is None:
        result = PyArray_NewLikeArray(array, cnp.NPY_KEEPORDER, NULL, 0)
    else:
        result = checked_out(out, ndim, cnp.PyArray_DIMS(array), cnp.PyArray_TYPE(array))
        if not same_array(result, array):
            check_overlap(result, array, "x")
    describe(&out_view, result, "out")
    move_axis_last(&x_view, place)
    move_axis_last(&out_view, place)
    with nogil:
        status = dlc_softmax(&out_view, &x_view, logarithm)
    check(status)
    return result


cdef cnp.ndarray weight_array(object sample_weight):
    if sample_weight is None:
        return None
    cdef cnp.ndarray array = plain_array(sample_weight)
    if array.dtype.kind not in "buif":
        raise TypeError(f"sample_weight has dtype {array.dtype}; expected real numbers")
    return array if native_dtype(array) >= 0 else array.astype(np.float64)


_LOSSES = {
    "mse": DLC_LOSS_MSE,
    "mae": DLC_LOSS_MAE,
    "huber": DLC_LOSS_HUBER,
    "binary_cross_entropy": DLC_LOSS_BINARY_CROSS_ENTROPY,
}


def elementwise_loss(str name, pred, target, sample_weight=None, double delta=1.0):
    """The mean of a loss that has a value for each element; see dlcore.ops.mse and its like."""
    if is_traced(pred) or is_traced(target) or is_traced(sample_weight):
        return traced("elementwise_loss", (name, pred, target, sample_weight, delta))
    cdef cnp.ndarray p = real_array(pred, "pred"), t = real_array(target, "target")
    cdef cnp.ndarray w = weight_array(sample_weight)
    cdef dlc_array p_view, t_view, w_view
    cdef dlc_array *weight = NULL if w is None else &w_view
    cdef int32_t kind = _LOSSES[name]
    cdef double loss
    cdef dlc_status status
    describe(&p_view, p, "pred")
    describe(&t_view, t, "target")
    if shape_of(p) != shape_of(t):
        raise ValueError(f"target has shape {shape_of(t)}, but pred has {shape_of(p)}")
    if weight != NULL:
        describe(weight, w, "sample_weight")
    with nogil:
        status = dlc_elementwise_loss(&loss, kind, &p_view, &t_view, weight, delta)
    check(status)
    return loss


cdef cnp.ndarray with_contiguous_rows(cnp.ndarray array):
    if cnp.PyArray_DIM(array, 1) > 1 and cnp.PyArray_STRIDE(array, 1) != cnp.PyArray_ITEMSIZE(array):
        return np.ascontiguousarray(array)
    return array


def cross_entropy(pred, target, sample_weight=None):
    """See dlcore.ops.cross_entropy."""
    if is_traced(pred) or is_traced(target) or is_traced(sample_weight):
        return traced("cross_entropy", (pred, target, sample_weight))
    cdef cnp.ndarray p = real_array(pred, "pred"), t = plain_array(target)
    cdef cnp.ndarray w = weight_array(sample_weight)
    cdef dlc_array p_view, t_view, w_view
    cdef dlc_array *weight = NULL if w is None else &w_view
    cdef double loss
    cdef dlc_status status
    if cnp.PyArray_NDIM(p) != 2:
        raise ValueError(f"pred has shape {shape_of(p)}; expected (n, classes)")
    if cnp.PyArray_NDIM(t) == 1:
        if t.dtype.kind not in "iub":
            raise TypeError(f"target has dtype {t.dtype}; labels must be integers")
        t = np.ascontiguousarray(t, np.int64)
    else:
        t = real_array(t, "target")
        if shape_of(p) != shape_of(t):
            raise ValueError(f"target has shape {shape_of(t)}; expected ({p.shape[0]},) for labels or "
                             f"{shape_of(p)} for the weights of classes")
        if cnp.PyArray_TYPE(p) != cnp.PyArray_TYPE(t):
            p, t = as_double(p), as_double(t)
        t = with_contiguous_rows(t)
    p = with_contiguous_rows(p)
    describe(&p_view, p, "pred")
    describe(&t_view, t, "target")
    if weight != NULL:
        describe(weight, w, "sample_weight")
    with nogil:
        status = dlc_cross_entropy(&loss, &p_view, &t_view, weight)
    check(status)
    return loss


# Optimiser steps.

cdef int check_state(cnp.ndarray array, cnp.ndarray param, str name, bint is_written) except -1:
    """Whether array goes with param in a step, element by element."""
    if shape_of(array) != shape_of(param):
        raise ValueError(f"{name} has shape {shape_of(array)}, but param has {shape_of(param)}")
    if array.dtype != param.dtype:
        raise ValueError(f"{name} has dtype {array.dtype}, but param has {param.dtype}")
    if not (cnp.PyArray_IS_C_CONTIGUOUS(array) and is_plain(array)):
        raise ValueError(f"{name} must be C-contiguous and aligned")
    if is_written and not cnp.PyArray_ISWRITEABLE(array):
        raise ValueError(f"{name} is read-only")
    return 0


cdef int check_step_arrays(arrays, n_written) except -1:
    """arrays: (name, array) of param, the states that are written, and grad."""
    for i, (name, array) in enumerate(arrays):
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{name} must be a numpy.ndarray, not {type(array).__name__}")
        if i == 0 and not is_real(cnp.PyArray_TYPE(array)):
            raise TypeError(f"{name} has dtype {array.dtype}; expected float32 or float64")
        check_state(array, arrays[0][1], name, i < n_written)
        for other_name, other in arrays[:i]:
            if np.may_share_memory(array, other):
                raise ValueError(f"{name} overlaps {other_name}")
    return 0


cdef int check_at_least(double value, double low, str name) except -1:
    if not value >= low:
        raise ValueError(f"{name} is {value}; expected {low:g} or more")
    return 0


cdef int run_step(int32_t kind, cnp.ndarray param, states, cnp.ndarray grad, dlc_step_options *options,
                  double *scalars) except -1:
    """A step on arrays that were checked; None in place of a state that there is not."""
    cdef dlc_step_arrays arrays
    cdef dlc_status status
    cdef int32_t dtype = native_dtype(param)
    cdef int64_t n = cnp.PyArray_SIZE(param)
    memset(&arrays, 0, sizeof(arrays))
    arrays.param = cnp.PyArray_DATA(param)
    arrays.grad = cnp.PyArray_DATA(grad)
    for i, state in enumerate(states):
        arrays.states[i] = NULL if state is None else cnp.PyArray_DATA(<cnp.ndarray>state)
    with nogil:
        status = dlc_optimizer_step(dtype, kind, &arrays, options, scalars, n)
    check(status)
    return 0


def sgd_step(param, grad, double lr, double momentum=0.0, bint nesterov=False, double weight_decay=0.0,
             velocity=None):
    """See dlcore.ops.sgd_step."""
    cdef dlc_step_options options
    for name, value in (("lr", lr), ("momentum", momentum), ("weight_decay", weight_decay)):
        check_at_least(value, 0, name)
    if nesterov and momentum == 0:
        raise ValueError("nesterov needs a momentum that is not 0")
    if momentum != 0 and velocity is None:
        raise ValueError("velocity is needed when momentum is not 0")
    arrays = [("param", param)]
    if velocity is not None:
        arrays.append(("velocity", velocity))
    arrays.append(("grad", grad))
    check_step_arrays(arrays, len(arrays) - 1)
    memset(&options, 0, sizeof(options))
    options.weight_decay = weight_decay
    options.own[0] = momentum
    options.own[1] = nesterov
    run_step(DLC_STEP_SGD, param, [None if momentum == 0 else velocity], grad, &options, &lr)


def adam_step(param, grad, m, v, int64_t step, double lr, double beta1=0.9, double beta2=0.999, double eps=1e-8,
              double weight_decay=0.0):
    """See dlcore.ops.adam_step."""
    cdef dlc_step_options options
    cdef double[3] scalars
    if step < 1:
        raise ValueError(f"step is {step}; steps count from 1")
    for name, value in (("lr", lr), ("eps", eps), ("weight_decay", weight_decay)):
        check_at_least(value, 0, name)
    for name, value in (("beta1", beta1), ("beta2", beta2)):
        if not 0 <= value < 1:
            raise ValueError(f"{name} is {value}; expected at least 0 and less than 1")
    check_step_arrays([("param", param), ("m", m), ("v", v), ("grad", grad)], 3)
    memset(&options, 0, sizeof(options))
    options.weight_decay = weight_decay
    options.decoupled = True
    options.own[0] = beta1
    options.own[1] = beta2
    options.own[2] = eps
    scalars[0] = lr
    scalars[1] = lr / (1 - pow(beta1, step))
    scalars[2] = 1 / sqrt(1 - pow(beta2, step))
    run_step(DLC_STEP_ADAM, param, [m, v], grad, &options, scalars)


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
    cdef cnp.ndarray order = np.empty(n, np.int64)
    cdef int64_t *data = <int64_t *>cnp.PyArray_DATA(order)
    cdef int64_t count = n
    cdef uint64_t key = seed & 0xFFFFFFFFFFFFFFFF, number = epoch
    with nogil:
        dlc_shuffle(data, count, key, number)
    return order


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
