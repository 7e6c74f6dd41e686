"""Losses and optimiser steps of dlcore.ops, on whole arrays. (A model's are part of its plan.)"""

cimport numpy as cnp
from libc.math cimport pow, sqrt
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memset

import numpy as np

from dlcore._arrays cimport (
    as_double,
    check_overlap,
    describe,
    is_plain,
    is_real,
    is_traced,
    native_dtype,
    plain_array,
    real_array,
    shape_of,
    traced,
)
from dlcore._native cimport check, dlc_array, dlc_status

cnp.import_array()


cdef extern from "ops.h" nogil:
    enum:
        DLC_STEP_SGD
        DLC_STEP_ADAM
        DLC_LOSS_MSE
        DLC_LOSS_MAE
        DLC_LOSS_HUBER
        DLC_LOSS_BINARY_CROSS_ENTROPY

    ctypedef struct dlc_step_arrays:
        void *param
        void *states[3]
        const void *grad

    ctypedef struct dlc_step_options:
        double weight_decay
        bint decoupled
        double own[4]

    dlc_status dlc_elementwise_loss(double *loss, int32_t kind, const dlc_array *pred, const dlc_array *target,
                                    const dlc_array *weight, double delta)
    dlc_status dlc_cross_entropy(double *loss, const dlc_array *logits, const dlc_array *target,
                                 const dlc_array *weight)
    dlc_status dlc_optimizer_step(int32_t dtype, int32_t kind, const dlc_step_arrays *arrays,
                                  const dlc_step_options *options, const double *scalars, int64_t n)


# Losses.

cdef cnp.ndarray weight_array(object sample_weight):
    if sample_weight is None:
        return None
    cdef cnp.ndarray array = plain_array(sample_weight)
    if array.dtype.kind not in "buif":
        raise TypeError(f"sample_weight has dtype {array.dtype}; expected real numbers")
    return array if native_dtype(array) >= 0 else array.astype(np.float64)


cdef object elementwise_loss(str name, int32_t kind, object pred, object target, object sample_weight, double delta=1.0):
    """The mean of a loss that has a value for each element; see dlcore.ops.mse and its like."""
    if is_traced(pred) or is_traced(target) or is_traced(sample_weight):
        return traced("elementwise_loss", (name, pred, target, sample_weight, delta))
    cdef cnp.ndarray p = real_array(pred, "pred"), t = real_array(target, "target")
    cdef cnp.ndarray w = weight_array(sample_weight)
    cdef dlc_array p_view, t_view, w_view
    cdef dlc_array *weight = NULL if w is None else &w_view
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


def mse(pred, target, *, sample_weight=None):
    """Mean squared error, over all elements.

    Parameters
    ----------
    pred : array_like, shape (n, ...)
    target : array_like, of the shape of `pred`
    sample_weight : array_like, shape (n,), optional
        With weights w and the mean l of a sample's losses, the result is sum(w l) / sum(w).

    Returns
    -------
    float
        NaN when there are no elements.

    Raises
    ------
    ValueError
        If the shapes differ, or the weights add up to 0.

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.ops.mse([1.0, 2.0], [1.0, 4.0])
    2.0
    """
    return elementwise_loss("mse", DLC_LOSS_MSE, pred, target, sample_weight)


def mae(pred, target, *, sample_weight=None):
    """Mean absolute error, over all elements.

    Parameters
    ----------
    pred : array_like, shape (n, ...)
    target : array_like, of the shape of `pred`
    sample_weight : array_like, shape (n,), optional
        With weights w and the mean l of a sample's losses, the result is sum(w l) / sum(w).

    Returns
    -------
    float
        NaN when there are no elements.

    Raises
    ------
    ValueError
        If the shapes differ, or the weights add up to 0.

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.ops.mae([1.0, 2.0], [1.0, 4.0])
    1.0
    """
    return elementwise_loss("mae", DLC_LOSS_MAE, pred, target, sample_weight)


def huber(pred, target, *, double delta=1.0, sample_weight=None):
    """Mean Huber loss: quadratic up to an error of `delta`, linear beyond.

    An element's loss is ``d**2 / 2`` for ``d = abs(pred - target) <= delta``, else
    ``delta * (d - delta / 2)``.

    Parameters
    ----------
    pred : array_like, shape (n, ...)
    target : array_like, of the shape of `pred`
    delta : float, default=1.0
        More than 0.
    sample_weight : array_like, shape (n,), optional
        With weights w and the mean l of a sample's losses, the result is sum(w l) / sum(w).

    Returns
    -------
    float
        NaN when there are no elements.

    Raises
    ------
    ValueError
        If the shapes differ, `delta` is not positive, or the weights add up to 0.

    References
    ----------
    P. J. Huber, Robust estimation of a location parameter, Ann. Math. Statist. 35 (1964).

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.ops.huber([1.0, 2.0], [1.5, 5.0])
    1.3125
    """
    if not delta > 0:
        raise ValueError(f"delta is {delta:g}; expected more than 0")
    return elementwise_loss("huber", DLC_LOSS_HUBER, pred, target, sample_weight, delta)


def binary_cross_entropy(pred, target, *, sample_weight=None):
    """Mean cross entropy of sigmoid; `pred` holds logits, not probabilities.

    An element's loss is ``log(1 + exp(p)) - t * p``, computed so that nothing overflows.

    Parameters
    ----------
    pred : array_like, shape (n, ...)
        Logits: the loss applies :func:`sigmoid` itself.
    target : array_like, of the shape of `pred`
        The probability of class 1, from 0 to 1.
    sample_weight : array_like, shape (n,), optional
        With weights w and the mean l of a sample's losses, the result is sum(w l) / sum(w).

    Returns
    -------
    float
        NaN when there are no elements.

    Raises
    ------
    ValueError
        If the shapes differ, or the weights add up to 0.

    Examples
    --------
    >>> import dlcore as dl
    >>> round(dl.ops.binary_cross_entropy([0.0, 3.0], [0.0, 1.0]), 6)
    0.370867
    """
    return elementwise_loss("binary_cross_entropy", DLC_LOSS_BINARY_CROSS_ENTROPY, pred, target, sample_weight)


cdef cnp.ndarray with_contiguous_rows(cnp.ndarray array):
    if cnp.PyArray_DIM(array, 1) > 1 and cnp.PyArray_STRIDE(array, 1) != cnp.PyArray_ITEMSIZE(array):
        return np.ascontiguousarray(array)
    return array


def cross_entropy(pred, target, *, sample_weight=None):
    """Mean cross entropy of softmax; `pred` holds logits, not probabilities.

    Parameters
    ----------
    pred : array_like, shape (n, classes)
        Logits: the loss applies :func:`log_softmax` itself.
    target : array_like of integers, shape (n,), or of floats, shape (n, classes)
        Labels 0 to classes - 1, or the probability of every class.
    sample_weight : array_like, shape (n,), optional
        With weights w and the samples' losses l, the result is sum(w l) / sum(w).

    Returns
    -------
    float
        NaN when there are no samples.

    Raises
    ------
    ValueError
        If the shapes do not fit, a label is out of range, or the weights add up to 0.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> round(dl.ops.cross_entropy(np.zeros((2, 4)), [1, 3]), 6)
    1.386294
    """
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
    if not cnp.PyArray_SAMESHAPE(array, param):
        raise ValueError(f"{name} has shape {shape_of(array)}, but param has {shape_of(param)}")
    if cnp.PyArray_DESCR(array) is not cnp.PyArray_DESCR(param) and array.dtype != param.dtype:
        raise ValueError(f"{name} has dtype {array.dtype}, but param has {param.dtype}")
    if not (cnp.PyArray_IS_C_CONTIGUOUS(array) and is_plain(array)):
        raise ValueError(f"{name} must be C-contiguous and aligned")
    if is_written and not cnp.PyArray_ISWRITEABLE(array):
        raise ValueError(f"{name} is read-only")
    return 0


cdef int check_step_arrays(tuple names, tuple arrays, Py_ssize_t n_written) except -1:
    """Of param, the states that are written, and grad."""
    cdef Py_ssize_t i, j
    for i in range(len(arrays)):
        if not isinstance(arrays[i], np.ndarray):
            raise TypeError(f"{names[i]} must be a numpy.ndarray, not {type(arrays[i]).__name__}")
        if i == 0 and not is_real(cnp.PyArray_TYPE(arrays[0])):
            raise TypeError(f"{names[0]} has dtype {arrays[0].dtype}; expected float32 or float64")
        check_state(arrays[i], arrays[0], names[i], i < n_written)
        for j in range(i):
            check_overlap(arrays[i], arrays[j], names[j], names[i])
    return 0


cdef int check_at_least(double value, double low, str name) except -1:
    if not value >= low:
        raise ValueError(f"{name} is {value}; expected {low:g} or more")
    return 0


cdef int check_decay(double value, str name) except -1:
    if not 0 <= value < 1:
        raise ValueError(f"{name} is {value}; expected at least 0 and less than 1")
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


def sgd_step(param, grad, *, double lr, double momentum=0.0, bint nesterov=False, double weight_decay=0.0,
             velocity=None):
    """One step of stochastic gradient descent, in place, with PyTorch's formulas.

    With ``g = grad + weight_decay * param`` and ``velocity = momentum * velocity + g``, `param` is
    moved by ``-lr * velocity``, or by ``-lr * (g + momentum * velocity)`` with `nesterov`.

    Parameters
    ----------
    param : ndarray
        Changed in place. All arrays are C-contiguous and agree in shape and dtype.
    grad : ndarray
    lr : float
        The learning rate.
    momentum : float, default=0.0
    nesterov : bool, default=False
    weight_decay : float, default=0.0
    velocity : ndarray, optional
        Changed in place; zeros before the first step. Needed with `momentum`, else left alone.

    Raises
    ------
    TypeError
        If `param` is neither float32 nor float64.
    ValueError
        If an array does not fit `param`, is not C-contiguous, is read-only or overlaps another,
        or a number is negative.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> param = np.array([1.0, 2.0])
    >>> dl.ops.sgd_step(param, np.array([4.0, 8.0]), lr=0.25)
    >>> param
    array([0., 0.])
    """
    cdef dlc_step_options options
    check_at_least(lr, 0, "lr")
    check_at_least(momentum, 0, "momentum")
    check_at_least(weight_decay, 0, "weight_decay")
    if nesterov and momentum == 0:
        raise ValueError("nesterov needs a momentum that is not 0")
    if momentum != 0 and velocity is None:
        raise ValueError("velocity is needed when momentum is not 0")
    if velocity is None:
        check_step_arrays(("param", "grad"), (param, grad), 1)
    else:
        check_step_arrays(("param", "velocity", "grad"), (param, velocity, grad), 2)
    memset(&options, 0, sizeof(options))
    options.weight_decay = weight_decay
    options.own[0] = momentum
    options.own[1] = nesterov
    run_step(DLC_STEP_SGD, param, [None if momentum == 0 else velocity], grad, &options, &lr)


def adam_step(param, grad, m, v, *, int64_t step, double lr, double beta1=0.9, double beta2=0.999, double eps=1e-8,
              double weight_decay=0.0):
    """One step of Adam, in place, with decoupled weight decay (AdamW).

    Parameters
    ----------
    param : ndarray
        Changed in place. All arrays are C-contiguous and agree in shape and dtype.
    grad : ndarray
    m, v : ndarray
        The running means of the gradient and of its square, changed in place; zeros before step 1.
    step : int
        The number of the step; the first is 1.
    lr : float
        The learning rate.
    beta1, beta2 : float, default=0.9, 0.999
        The decay of `m` and `v`, from 0 to less than 1.
    eps : float, default=1e-8
    weight_decay : float, default=0.0
        `param` is first multiplied by ``1 - lr * weight_decay``.

    Raises
    ------
    TypeError
        If `param` is neither float32 nor float64.
    ValueError
        If an array does not fit `param`, is not C-contiguous, is read-only or overlaps another,
        or a number is out of range.

    References
    ----------
    D. P. Kingma, J. Ba, Adam: a method for stochastic optimization, ICLR 2015.
    I. Loshchilov, F. Hutter, Decoupled weight decay regularization, ICLR 2019.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> param, m, v = np.ones(2), np.zeros(2), np.zeros(2)
    >>> dl.ops.adam_step(param, np.array([3.0, -5.0]), m, v, step=1, lr=0.1)
    >>> param.round(6)
    array([0.9, 1.1])
    """
    cdef dlc_step_options options
    cdef double[3] scalars
    if step < 1:
        raise ValueError(f"step is {step}; steps count from 1")
    check_at_least(lr, 0, "lr")
    check_at_least(eps, 0, "eps")
    check_at_least(weight_decay, 0, "weight_decay")
    check_decay(beta1, "beta1")
    check_decay(beta2, "beta2")
    check_step_arrays(("param", "m", "v", "grad"), (param, m, v, grad), 3)
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
