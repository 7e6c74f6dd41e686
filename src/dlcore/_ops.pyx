"""Products, elementwise functions and softmax of dlcore.ops.

They are Python's entry to the core, with no wrapper of Python code around them: a product of 8 x 8 matrices takes
as long as two such calls. Small work is done with the GIL held, as letting go of it costs as much.
"""

cimport numpy as cnp
from libc.stdint cimport int32_t, int64_t

import numpy as np

from dlcore._arrays cimport (
    aligned_array,
    as_double,
    check_overlap,
    checked_out,
    describe,
    is_plain,
    is_real,
    is_traced,
    real_array,
    result_of,
    same_array,
    shape_of,
    traced,
)
from dlcore._native cimport DLC_FLOAT64, DLC_MAX_NDIM, check, dlc_array, dlc_matmul, dlc_status
from dlcore._packed cimport PackedMatrix

cnp.import_array()


cdef extern from "numpy/arrayobject.h":
    object PyArray_NewLikeArray(cnp.ndarray prototype, cnp.NPY_ORDER order, void *descr, int subok)


cdef extern from "map/map_ops.h" nogil:
    enum:
        DLC_MAP_COPY
        DLC_MAP_RELU
        DLC_MAP_LEAKY_RELU
        DLC_MAP_ELU
        DLC_MAP_SIGMOID
        DLC_MAP_TANH
        DLC_MAP_GELU
        DLC_MAP_SILU
        DLC_MAP_SOFTPLUS
        DLC_MAP_EXP
        DLC_MAP_LOG


cdef extern from "ops.h" nogil:
    dlc_status dlc_matmul_shape(int64_t *shape, int32_t *ndim, const dlc_array *a, const dlc_array *b)
    dlc_status dlc_matmul_bfloat16(const dlc_array *out, const dlc_array *a, const dlc_array *b,
                                   const void *packed_b)
    dlc_status dlc_linear(const dlc_array *out, const dlc_array *x, const dlc_array *w, const dlc_array *b,
                          int32_t activation, double parameter, bint in_bfloat16, const void *packed_w)
    dlc_status dlc_apply(const dlc_array *out, int32_t op, const dlc_array *inputs, bint out_is_new)
    dlc_status dlc_softmax(const dlc_array *out, const dlc_array *x, bint logarithm)


# Elements, multiply-adds and elements of a product up to which the GIL is kept: some microseconds.
cdef enum:
    SMALL_ELEMENTS = 4096
    SMALL_PRODUCT = 1 << 17
    SMALL_OPERANDS = 1 << 14


# Copies.

def as_contiguous(cnp.ndarray array not None):
    """The array, or a copy of it in C order."""
    cdef int ndim = cnp.PyArray_NDIM(array)
    if cnp.PyArray_IS_C_CONTIGUOUS(array):
        return array
    # the core would convert what is not real
    if ndim > DLC_MAX_NDIM or not is_plain(array) or not is_real(cnp.PyArray_TYPE(array)):
        return np.array(array, order="C")
    cdef cnp.ndarray copy = aligned_array(ndim, cnp.PyArray_DIMS(array), cnp.PyArray_TYPE(array))
    cdef dlc_array source, target
    cdef dlc_status status
    describe(&source, array, "an array")
    describe(&target, copy, "an array")
    if cnp.PyArray_SIZE(array) <= SMALL_ELEMENTS:
        status = dlc_apply(&target, DLC_MAP_COPY, &source, True)
    else:
        with nogil:
            status = dlc_apply(&target, DLC_MAP_COPY, &source, True)
    check(status)
    return copy


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


cdef bint is_matrix(object value) noexcept:
    if not cnp.PyArray_CheckExact(value):
        return False
    cdef cnp.ndarray array = value
    return cnp.PyArray_NDIM(array) == 2 and is_real(cnp.PyArray_TYPE(array)) and is_plain(array)


cdef double count(const dlc_array *array) noexcept:
    cdef double elements = 1
    cdef int axis
    for axis in range(array.ndim):
        elements *= array.shape[axis]
    return elements


cdef bint is_short(const dlc_array *out, const dlc_array *a, const dlc_array *b) noexcept:
    """Whether a product keeps the GIL."""
    cdef double elements = count(out)
    return elements * a.shape[a.ndim - 1] <= SMALL_PRODUCT and elements + count(a) + count(b) <= SMALL_OPERANDS


cdef dlc_status run_product(const dlc_array *out, const dlc_array *a, const dlc_array *b) noexcept:
    cdef dlc_status status
    if is_short(out, a, b):
        return dlc_matmul(out, a, b)
    with nogil:
        status = dlc_matmul(out, a, b)
    return status


cdef cnp.ndarray multiply_matrices(cnp.ndarray a, cnp.ndarray b):
    """The product of two matrices of one dtype that fit."""
    cdef dlc_array a_view, b_view, out_view
    cdef cnp.npy_intp[2] dims
    dims[0] = cnp.PyArray_DIM(a, 0)
    dims[1] = cnp.PyArray_DIM(b, 1)
    cdef cnp.ndarray result = cnp.PyArray_EMPTY(2, dims, cnp.PyArray_TYPE(a), 0)
    describe(&a_view, a, "a")
    describe(&b_view, b, "b")
    describe(&out_view, result, "out")
    check(run_product(&out_view, &a_view, &b_view))
    return result


cdef dlc_status run_product_in_bfloat16(const dlc_array *out, const dlc_array *a, const dlc_array *b,
                                        const void *packed_b) noexcept:
    cdef dlc_status status
    with nogil:
        status = dlc_matmul_bfloat16(out, a, b, packed_b)
    return status


cdef bint is_bfloat16(object compute) except -1:
    if compute is None:
        return False
    if not isinstance(compute, str) or compute != "bfloat16":
        raise ValueError(f"compute is {compute!r}; expected None or 'bfloat16'")
    return True


cdef PackedMatrix packed_of(object value):
    return <PackedMatrix>value if isinstance(value, PackedMatrix) else None


cdef int refuse_packed(PackedMatrix packed, str name) except -1:
    """Of traced functions, whose plans have no products in bfloat16."""
    if packed is not None:
        raise NotImplementedError(f"{name} is packed, which a traced function cannot take; pass it as an array")
    return 0


cdef cnp.ndarray array_of(object value, PackedMatrix packed, str name):
    """The operand's array, which of a packed matrix is its memory."""
    return real_array(value, name) if packed is None else packed.memory


cdef const void *unpack_shape(dlc_array *view, PackedMatrix packed):
    """Gives the view of a packed matrix the shape that it had, and returns where it is packed; NULL for other views."""
    if packed is None:
        return NULL
    view.shape[0], view.shape[1] = packed.shape
    return view.data


cdef int check_single(cnp.ndarray array, str name) except -1:
    if cnp.PyArray_TYPE(array) != cnp.NPY_FLOAT32:
        raise TypeError(f"{name} has dtype {array.dtype}; compute='bfloat16' takes float32 only")
    return 0


def matmul(a, b, *, bint transpose_a=False, bint transpose_b=False, compute=None, out=None):
    """Matrix product, with the rules of ``numpy.matmul``.

    Parameters
    ----------
    a : array_like, shape (..., m, k) or (k,)
    b : array_like, shape (..., k, n) or (k,), or PackedMatrix
        Leading axes broadcast. An array of one axis is a row (``a``) or a column (``b``), and its
        axis of extent 1 is not in the result.
    transpose_a, transpose_b : bool, default=False
        Exchange the last two axes first; nothing is copied for it.
    compute : {None, "bfloat16"}, optional
        "bfloat16" rounds `a` and `b`, which must be float32, to bfloat16 (to nearest, ties to even)
        and adds up their products in float32; see Notes. So does a `b` that is a `PackedMatrix` (of
        :func:`pack_bfloat16`), whatever `compute` is.
    out : ndarray, optional
        Where to write the result; it must not overlap `a` or `b`.

    Returns
    -------
    ndarray, shape (..., m, n)
        A scalar where both `a` and `b` have one axis.

    Raises
    ------
    ValueError
        If the shapes do not fit, or for an unknown `compute`.
    TypeError
        If `compute` is "bfloat16" and an operand is float64.
    NotImplementedError
        If `compute` is "bfloat16", or the second operand is packed, in a function that is traced.

    Notes
    -----
    bfloat16 has the exponent of float32 and 8 bits of precision. With ``compute="bfloat16"`` each
    operand is rounded with a relative error of at most 2**-8, so that the result changes by at most
    about 2**-7 of ``abs(a) @ abs(b)``; products are exact where they are in float32's range, and
    added up in float32, in an order that is the CPU's own. Operands below 2**-126 count as 0, and with
    "amx" and "native" sums as well. What it gains depends on what ``dl.show_config()`` says of
    bfloat16. With "amx" (Intel's Xeons from Sapphire Rapids on) products of 128 rows and more take 1/4 to
    1/5 of the time of float32, 1/6 with a second operand of :func:`pack_bfloat16`. "native"
    (AVX512_BF16) is faster than float32 on Zen 4, and takes 1.7 to 2 times as long on an Intel Xeon.
    "emulated" is slower still.

    References
    ----------
    Intel, BFLOAT16 - Hardware Numerics Definition, white paper 338302-001US, 2018.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> x = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> dl.ops.matmul(x, x, transpose_b=True)
    array([[ 5., 11.],
           [11., 25.]])
    """
    if (out is None and compute is None and not transpose_a and not transpose_b and is_matrix(a) and is_matrix(b)
            and cnp.PyArray_TYPE(<cnp.ndarray>a) == cnp.PyArray_TYPE(<cnp.ndarray>b)
            and cnp.PyArray_DIM(<cnp.ndarray>a, 1) == cnp.PyArray_DIM(<cnp.ndarray>b, 0)):
        return multiply_matrices(a, b)
    cdef PackedMatrix packed = packed_of(b)
    cdef bint in_bfloat16 = is_bfloat16(compute) or packed is not None
    if is_traced(a) or is_traced(b):
        refuse_packed(packed, "b")
        return traced("matmul", (a, b, transpose_a, transpose_b, compute), out)
    if packed is not None and transpose_b:
        raise ValueError("transpose_b is True, but b is packed; pack it with transpose=True instead")
    cdef cnp.ndarray left = real_array(a, "a"), right = array_of(b, packed, "b"), result
    cdef dlc_array a_view, b_view, out_view
    cdef int64_t[8] shape
    cdef cnp.npy_intp[8] dims
    cdef int32_t axis, matrix_ndim, ndim = 0
    if in_bfloat16:
        check_single(left, "a")
        check_single(right, "b")
    cdef bint a_is_vector = cnp.PyArray_NDIM(left) == 1, b_is_vector = cnp.PyArray_NDIM(right) == 1
    if cnp.PyArray_TYPE(left) != cnp.PyArray_TYPE(right):
        left, right = as_double(left), as_double(right)
    describe(&a_view, left, "a")
    describe(&b_view, right, "b")
    cdef const void *packed_b = unpack_shape(&b_view, packed)
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
    if in_bfloat16:
        check(run_product_in_bfloat16(&out_view, &a_view, &b_view, packed_b))
    else:
        check(run_product(&out_view, &a_view, &b_view))
    return result_of(result, out is None)


# activation -> name and code of its instruction, and the parameter that it takes
_ACTIVATIONS = {
    "identity": ("copy", DLC_MAP_COPY, 0.0),
    "relu": ("relu", DLC_MAP_RELU, 0.0),
    "leaky_relu": ("leaky_relu", DLC_MAP_LEAKY_RELU, 0.01),
    "elu": ("elu", DLC_MAP_ELU, 1.0),
    "sigmoid": ("sigmoid", DLC_MAP_SIGMOID, 0.0),
    "tanh": ("tanh", DLC_MAP_TANH, 0.0),
    "gelu": ("gelu", DLC_MAP_GELU, 0.0),
    "silu": ("silu", DLC_MAP_SILU, 0.0),
    "softplus": ("softplus", DLC_MAP_SOFTPLUS, 0.0),
}


cdef int check_ndim(cnp.ndarray array, int ndim, str name) except -1:
    if cnp.PyArray_NDIM(array) != ndim:
        raise ValueError(f"{name} has shape {shape_of(array)}; expected {ndim} {'axes' if ndim > 1 else 'axis'}")
    return 0


def linear(x, w, b=None, *, activation="identity", compute=None, out=None):
    """``activation(x @ w + b)``; bias and activation are applied while the product is in cache.

    Parameters
    ----------
    x : array_like, shape (n, k)
    w : array_like, shape (k, m), or PackedMatrix
        Of :func:`pack_bfloat16`, for which `compute` is "bfloat16".
    b : array_like, shape (m,), optional
    activation : str, default="identity"
        "identity", "relu", "leaky_relu" (slope 0.01), "elu" (alpha 1), "sigmoid", "tanh", "gelu",
        "silu" or "softplus", as the functions of these names.
    compute : {None, "bfloat16"}, optional
        "bfloat16" rounds `x` and `w` to bfloat16, as :func:`matmul` says; `x`, `w` and `b` must be
        float32 then, and bias and activation are computed in float32.
    out : ndarray of shape (n, m), optional

    Returns
    -------
    ndarray, shape (n, m)

    Raises
    ------
    ValueError
        If the shapes do not fit, or for an unknown `activation` or `compute`.
    TypeError
        If `compute` is "bfloat16" and `x`, `w` or `b` is float64.
    NotImplementedError
        If `compute` is "bfloat16", or the second operand is packed, in a function that is traced.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> dl.ops.linear(np.eye(2), np.array([[1.0, -1.0], [0.0, 2.0]]), [0.5, 0.5], activation="relu")
    array([[1.5, 0. ],
           [0.5, 2.5]])
    """
    if activation not in _ACTIVATIONS:
        raise ValueError(f"activation is {activation!r}; expected one of {', '.join(_ACTIVATIONS)}")
    name, code, value = _ACTIVATIONS[activation]
    cdef PackedMatrix packed = packed_of(w)
    cdef bint in_bfloat16 = is_bfloat16(compute) or packed is not None
    if is_traced(x) or is_traced(w) or is_traced(b):
        refuse_packed(packed, "w")
        return traced("linear", (x, w, b, name, value, compute), out)
    cdef cnp.ndarray x_array = real_array(x, "x"), w_array = array_of(w, packed, "w"), result
    cdef cnp.ndarray b_array = None if b is None else real_array(b, "b")
    cdef dlc_array x_view, w_view, b_view, out_view
    cdef dlc_array *bias = NULL if b is None else &b_view
    cdef cnp.npy_intp[2] dims
    cdef dlc_status status
    cdef int number = cnp.PyArray_TYPE(x_array)
    cdef int32_t op = code
    cdef double parameter = value
    if in_bfloat16:
        check_single(x_array, "x")
        check_single(w_array, "w")
        if bias != NULL:
            check_single(b_array, "b")
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
    cdef const void *packed_w = unpack_shape(&w_view, packed)
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
    if is_short(&out_view, &x_view, &w_view):
        status = dlc_linear(&out_view, &x_view, &w_view, bias, op, parameter, in_bfloat16, packed_w)
    else:
        with nogil:
            status = dlc_linear(&out_view, &x_view, &w_view, bias, op, parameter, in_bfloat16, packed_w)
    check(status)
    return result


# Elementwise functions.

cdef object elementwise(object x, object out, int op, str name, double parameter=0.0, bint has_parameter=False):
    """An instruction of one array, and of a number where it takes two operands."""
    if is_traced(x):
        return traced("elementwise", (name, x, parameter if has_parameter else None), out)
    cdef cnp.ndarray array = real_array(x, "x"), result
    cdef dlc_array out_view
    cdef dlc_array[2] inputs
    cdef dlc_status status
    cdef bint is_new = out is None
    describe(&inputs[0], array, "x")
    if is_new:
        result = PyArray_NewLikeArray(array, cnp.NPY_KEEPORDER, NULL, 0)
    else:
        result = checked_out(out, cnp.PyArray_NDIM(array), cnp.PyArray_DIMS(array), cnp.PyArray_TYPE(array))
        if not same_array(result, array):
            check_overlap(result, array, "x")
    describe(&out_view, result, "out")
    if has_parameter:
        inputs[1].data = &parameter
        inputs[1].dtype = DLC_FLOAT64
        inputs[1].ndim = 0
    if cnp.PyArray_SIZE(array) <= SMALL_ELEMENTS:
        status = dlc_apply(&out_view, op, inputs, is_new)
    else:
        with nogil:
            status = dlc_apply(&out_view, op, inputs, is_new)
    check(status)
    return result_of(result, is_new)


def relu(x, *, out=None):
    """``max(x, 0)``; NaN stays NaN.

    Parameters
    ----------
    x : array_like
    out : ndarray, optional

    Returns
    -------
    ndarray, or scalar for an `x` without axes

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> dl.ops.relu(np.array([-1.0, 2.0]))
    array([0., 2.])
    """
    return elementwise(x, out, DLC_MAP_RELU, "relu")


def leaky_relu(x, double negative_slope=0.01, *, out=None):
    """``x`` where it is positive, else ``negative_slope * x``.

    Parameters
    ----------
    x : array_like
    negative_slope : float, default=0.01
    out : ndarray, optional

    Returns
    -------
    ndarray, or scalar for an `x` without axes

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> dl.ops.leaky_relu(np.array([-1.0, 2.0]), 0.25)
    array([-0.25,  2.  ])
    """
    return elementwise(x, out, DLC_MAP_LEAKY_RELU, "leaky_relu", negative_slope, True)


def elu(x, double alpha=1.0, *, out=None):
    """``x`` where it is positive, else ``alpha * (exp(x) - 1)``.

    Parameters
    ----------
    x : array_like
    alpha : float, default=1.0
    out : ndarray, optional

    Returns
    -------
    ndarray, or scalar for an `x` without axes

    References
    ----------
    D.-A. Clevert, T. Unterthiner, S. Hochreiter, Fast and accurate deep network learning by
    exponential linear units, ICLR 2016.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> dl.ops.elu(np.array([-1.0, 2.0])).round(4)
    array([-0.6321,  2.    ])
    """
    return elementwise(x, out, DLC_MAP_ELU, "elu", alpha, True)


def sigmoid(x, *, out=None):
    """The logistic function ``1 / (1 + exp(-x))``.

    Parameters
    ----------
    x : array_like
    out : ndarray, optional

    Returns
    -------
    ndarray, or scalar for an `x` without axes

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> dl.ops.sigmoid(np.array([0.0, 2.0])).round(4)
    array([0.5   , 0.8808])
    """
    return elementwise(x, out, DLC_MAP_SIGMOID, "sigmoid")


def tanh(x, *, out=None):
    """The hyperbolic tangent.

    Parameters
    ----------
    x : array_like
    out : ndarray, optional

    Returns
    -------
    ndarray, or scalar for an `x` without axes

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> dl.ops.tanh(np.array([0.0, 0.5])).round(4)
    array([0.    , 0.4621])
    """
    return elementwise(x, out, DLC_MAP_TANH, "tanh")


def gelu(x, *, out=None):
    """The Gaussian error linear unit ``x * Phi(x)``, with the error function, not an approximation.

    Parameters
    ----------
    x : array_like
    out : ndarray, optional

    Returns
    -------
    ndarray, or scalar for an `x` without axes

    References
    ----------
    D. Hendrycks, K. Gimpel, Gaussian error linear units, arXiv:1606.08415.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> dl.ops.gelu(np.array([-1.0, 1.0])).round(4)
    array([-0.1587,  0.8413])
    """
    return elementwise(x, out, DLC_MAP_GELU, "gelu")


def silu(x, *, out=None):
    """The sigmoid linear unit ``x * sigmoid(x)``, also called swish.

    Parameters
    ----------
    x : array_like
    out : ndarray, optional

    Returns
    -------
    ndarray, or scalar for an `x` without axes

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> dl.ops.silu(np.array([-1.0, 1.0])).round(4)
    array([-0.2689,  0.7311])
    """
    return elementwise(x, out, DLC_MAP_SILU, "silu")


def softplus(x, *, out=None):
    """``log(1 + exp(x))``, which does not overflow.

    Parameters
    ----------
    x : array_like
    out : ndarray, optional

    Returns
    -------
    ndarray, or scalar for an `x` without axes

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> dl.ops.softplus(np.array([0.0, 1000.0])).round(4)
    array([6.931e-01, 1.000e+03])
    """
    return elementwise(x, out, DLC_MAP_SOFTPLUS, "softplus")


def exp(x, *, out=None):
    """The exponential function.

    Parameters
    ----------
    x : array_like
    out : ndarray, optional

    Returns
    -------
    ndarray, or scalar for an `x` without axes

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> dl.ops.exp(np.array([0.0, 1.0])).round(4)
    array([1.    , 2.7183])
    """
    return elementwise(x, out, DLC_MAP_EXP, "exp")


def log(x, *, out=None):
    """The natural logarithm: -inf at 0, NaN below. Unlike ``numpy.log`` it gives no warning.

    Parameters
    ----------
    x : array_like
    out : ndarray, optional

    Returns
    -------
    ndarray, or scalar for an `x` without axes

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> dl.ops.log(np.array([0.0, 1.0]))
    array([-inf,   0.])
    """
    return elementwise(x, out, DLC_MAP_LOG, "log")


# Softmax.

cdef void move_axis_last(dlc_array *view, int axis) noexcept:
    cdef int64_t extent = view.shape[axis], stride = view.stride[axis]
    cdef int i
    for i in range(axis, view.ndim - 1):
        view.shape[i] = view.shape[i + 1]
        view.stride[i] = view.stride[i + 1]
    view.shape[view.ndim - 1] = extent
    view.stride[view.ndim - 1] = stride


cdef object softmax_of(object x, object axis, object out, bint logarithm):
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


def softmax(x, *, axis=-1, out=None):
    """``exp(x) / sum(exp(x))`` along an axis, which does not overflow.

    Parameters
    ----------
    x : array_like with at least one axis
    axis : int, default=-1
        The axis whose elements add up to 1.
    out : ndarray, optional
        May be `x`.

    Returns
    -------
    ndarray, of the shape of `x`

    Raises
    ------
    numpy.exceptions.AxisError
        If `x` has no such axis.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> dl.ops.softmax(np.array([0.0, np.log(3.0)])).round(4)
    array([0.25, 0.75])
    """
    return softmax_of(x, axis, out, False)


def log_softmax(x, *, axis=-1, out=None):
    """The logarithm of :func:`softmax`, exact where that is almost 0 or 1.

    Parameters
    ----------
    x : array_like with at least one axis
    axis : int, default=-1
    out : ndarray, optional
        May be `x`.

    Returns
    -------
    ndarray, of the shape of `x`

    Raises
    ------
    numpy.exceptions.AxisError
        If `x` has no such axis.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> dl.ops.log_softmax(np.array([0.0, 1000.0]))
    array([-1000.,     0.])
    """
    return softmax_of(x, axis, out, True)
