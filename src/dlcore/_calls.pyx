"""Plans as functions of arrays, for calls that take about as long as what they compute."""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

cimport numpy as cnp

from dlcore._arrays cimport aligned_array, is_plain
from dlcore._native cimport DLC_MAX_NDIM, DLC_OK, check, dlc_get_num_threads, dlc_status
from dlcore._plan cimport (
    DLC_SLOT_FIXED,
    Plan,
    Workspace,
    bind,
    dlc_binding,
    dlc_plan_cost,
    dlc_plan_fixed_cost,
    dlc_plan_run,
    dlc_repeated_step,
    dlc_repeated_step_free,
    dlc_repeated_step_make,
    dlc_repeated_step_run,
    dlc_repeated_step_team,
    dlc_repeated_step_threads,
    dlc_run,
    dlc_slot_record,
    dtype_of,
    type_number_of,
)

import numpy as np

from dlcore._ops import as_contiguous

cnp.import_array()


cdef void _set_one_step(dlc_run *run, Workspace workspace, int64_t n_slots) noexcept:
    """A run of one step of one row, on as many threads as the plan deserves, seed and counter 0."""
    run.bindings = workspace.bindings
    run.n_bindings = n_slots
    run.order = NULL
    run.n_order = 0
    run.packed = NULL
    run.epoch_rows = run.batch_rows = 1
    run.step_begin = 0
    run.step_end = 1
    run.seed = run.counter = 0
    run.arena = workspace.arena
    run.arena_bytes = workspace.arena_bytes
    run.threads = 0
    run.training = 0
    run.budget_ns = 0


cdef struct _Array:
    # an argument or result: its slot (-1: none), and what it has to be
    int64_t slot
    int type_number
    int ndim
    bint transposed  # in Fortran order, not C order
    cnp.npy_intp shape[DLC_MAX_NDIM]


cdef int _describe_array(_Array *array, tuple description, bint transposed=False) except -1:
    slot, dtype, shape = description
    if len(shape) > DLC_MAX_NDIM:
        raise ValueError(f"an array has {len(shape)} axes; the limit is {DLC_MAX_NDIM}")
    array.slot = slot
    array.type_number = (<cnp.dtype>dtype).type_num
    array.ndim = len(shape)
    array.transposed = transposed
    for i in range(array.ndim):
        array.shape[i] = shape[i]
    return 0


# noexcept, here and below: these run for each argument of a call, and to compare fields of arrays raises nothing
cdef bint _is_in_order(const _Array *expected, cnp.ndarray array) noexcept:
    if expected.transposed:
        return cnp.PyArray_IS_F_CONTIGUOUS(array)
    return cnp.PyArray_IS_C_CONTIGUOUS(array)


cdef bint _has_form(const _Array *expected, object value, int first_axis) noexcept:
    """Whether value is an array as expected, but for its order and the extents of axes before `first_axis`."""
    if not cnp.PyArray_CheckExact(value):
        return False
    cdef cnp.ndarray array = value
    if (
        cnp.PyArray_NDIM(array) != expected.ndim
        or not is_plain(array)
        or not cnp.PyArray_EquivTypenums(cnp.PyArray_TYPE(array), expected.type_number)
    ):
        return False
    for i in range(first_axis, expected.ndim):
        if cnp.PyArray_DIM(array, i) != expected.shape[i]:
            return False
    return True


cdef bint _fits(const _Array *expected, object value, int first_axis=0) noexcept:
    """Whether value is an array as expected, but for the extents of axes before `first_axis`."""
    return _has_form(expected, value, first_axis) and _is_in_order(expected, value)


# Bytes of an array in Fortran order from which on a plan is made that reads it as it lies. To copy
# less takes a microsecond or two.
cdef Py_ssize_t LEAST_READ_TRANSPOSED = 1 << 15


cdef bint _is_read_transposed(cnp.ndarray array) noexcept:
    return (
        cnp.PyArray_IS_F_CONTIGUOUS(array)
        and not cnp.PyArray_IS_C_CONTIGUOUS(array)
        and cnp.PyArray_NBYTES(array) >= LEAST_READ_TRANSPOSED
    )


def is_read_transposed(value):
    """Whether it is an array in Fortran order that is large enough for a plan of its own."""
    return isinstance(value, cnp.ndarray) and _is_read_transposed(value)


cdef object _as_expected(const _Array *expected, object value):
    """The array, or a copy of it in C order where that is expected and it is in another; else None."""
    if not _has_form(expected, value, 0):
        return None
    if _is_in_order(expected, value) or expected.slot < 0:
        return value
    if expected.transposed or _is_read_transposed(value):
        return None
    return as_contiguous(value)


cdef class Call:
    """A plan of one step as a function of arrays.

    Parameters
    ----------
    plan : Plan
        Its slots are FIXED, but for those of results, which are STEP.
    arguments, results : sequence of (int, dtype, tuple of int)
        Slot (-1 for an argument that the plan does not read), dtype and shape.
    transposed : sequence of bool
        Of each argument, whether it is expected in Fortran order, and not in C order.
    constants : sequence of (int, ndarray)
        Slots that are bound to the same array at every call. One that is in another order or dtype
        than plans read is copied each time, so that changes of it are seen.
    as_one : bool
        Whether calls return the only result itself, and not a tuple of results.
    """

    cdef Plan _plan
    cdef _Array *_arguments
    cdef _Array *_results
    cdef Py_ssize_t _n_arguments, _n_results
    cdef list _constants
    cdef bint _as_one

    def __cinit__(self, Plan plan, arguments, transposed, results, constants, bint as_one):
        self._plan = plan
        self._as_one = as_one
        self._constants = list(constants)
        self._n_arguments = len(arguments)
        self._n_results = len(results)
        self._arguments = <_Array *>malloc((self._n_arguments + 1) * sizeof(_Array))
        self._results = <_Array *>malloc((self._n_results + 1) * sizeof(_Array))
        if self._arguments == NULL or self._results == NULL:
            raise MemoryError("no memory for the arguments of a call")
        for i in range(self._n_arguments):
            _describe_array(&self._arguments[i], arguments[i], transposed[i])
        for i in range(self._n_results):
            _describe_array(&self._results[i], results[i])

    def __dealloc__(self):
        free(self._arguments)
        free(self._results)

    def __call__(self, tuple arguments not None, uint64_t seed=0, uint64_t counter=0):
        """The results as arrays, or as NumPy's scalars where they have no axes.

        None unless every argument is an array of the expected dtype and shape, in the expected
        order or one that is copied to it. ``seed`` and ``counter`` are the key of the random
        generator.
        """
        cdef Py_ssize_t i
        cdef list arrays = None
        if len(arguments) != self._n_arguments:
            return None
        for i in range(self._n_arguments):
            array = _as_expected(&self._arguments[i], arguments[i])
            if array is None:
                return None
            if array is not arguments[i]:
                arrays = arrays or list(arguments)
                arrays[i] = array
        if arrays is not None:
            arguments = tuple(arrays)
        cdef Workspace workspace = self._plan.take_workspace(0)
        try:
            return self._run(arguments, workspace, seed, counter)
        finally:
            self._plan._idle.append(workspace)

    cdef object _run(
        self, tuple arguments, Workspace workspace, uint64_t seed, uint64_t counter
    ):
        cdef dlc_run run
        cdef dlc_status status
        cdef Py_ssize_t i
        cdef cnp.ndarray array
        cdef list results = [None] * self._n_results
        cdef list copies = None
        for i in range(self._n_arguments):
            if self._arguments[i].slot >= 0:
                self._bind(workspace.bindings, self._arguments[i].slot, arguments[i])
        for slot, constant in self._constants:
            array = self._native(slot, constant)
            if array is not constant:
                copies = copies or []
                copies.append(array)
            self._bind(workspace.bindings, slot, array)
        for i in range(self._n_results):
            array = cnp.PyArray_EMPTY(
                self._results[i].ndim, self._results[i].shape, self._results[i].type_number, 0
            )
            self._bind(workspace.bindings, self._results[i].slot, array)
            results[i] = array
        _set_one_step(&run, workspace, self._plan._n_slots)
        run.seed = seed
        run.counter = counter
        with nogil:
            status = dlc_plan_run(self._plan._plan, &run)
        check(status)
        for i in range(self._n_results):
            if self._results[i].ndim == 0:
                array = results[i]
                results[i] = cnp.PyArray_ToScalar(cnp.PyArray_DATA(array), array)
        return results[0] if self._as_one else tuple(results)

    cdef cnp.ndarray _native(self, int64_t slot, cnp.ndarray array):
        cdef const dlc_slot_record *record = &self._plan._slots[slot]
        if cnp.PyArray_ISCARRAY_RO(array) and cnp.PyArray_EquivTypenums(
            cnp.PyArray_TYPE(array), type_number_of(record)
        ):
            return array
        if is_plain(array) and array.dtype == dtype_of(record):
            return as_contiguous(array)
        return np.require(array, dtype_of(record), ["C_CONTIGUOUS", "ALIGNED"])

    cdef inline void _bind(self, dlc_binding *bindings, int64_t slot, cnp.ndarray array) noexcept:
        bindings[slot].data = cnp.PyArray_DATA(array)
        bindings[slot].count = 1  # the entry of a result for the one step
        if self._plan._slots[slot].kind == DLC_SLOT_FIXED:
            bindings[slot].count = cnp.PyArray_NBYTES(array)


# A run of more than that, in flops or elements, is some 10 microseconds or longer. It leaves the
# interpreter to other threads; to take it back costs up to 5 milliseconds when they hold it.
cdef int64_t MOST_COST_WITH_GIL = 1 << 17


# Of all that plans of models are made from; see outdate_calls.
cdef unsigned long long _revision = 0


def outdate_calls():
    """Lets no `RowCall` or `BatchCall` made so far, of whatever model, be used: a layer has changed."""
    global _revision
    _revision += 1


def calls_revision():
    """What tells later whether layers have changed since."""
    return _revision


cdef class _BoundCall:
    """A plan as a function of rows, bound to everything else once.

    Parameters
    ----------
    plan : Plan
    bindings : list of ndarray
        One for each slot. Those of the rows and of their results serve as examples of dtype and of
        a row's shape.
    rows, results : int
        Their STREAM slots.
    parameters : object
        What was bound is right for calls that name this very object.
    revision : int
        `calls_revision` of before the plan was looked up.
    """

    cdef Plan _plan
    cdef list _bound  # holds the arrays whose memory is bound
    cdef object _parameters
    cdef unsigned long long _revision

    def __cinit__(
        self,
        Plan plan,
        list bindings,
        int64_t rows,
        int64_t results,
        object parameters,
        unsigned long long revision,
    ):
        self._plan = plan
        self._bound = list(bindings)
        self._bound[rows] = self._bound[results] = None  # of the caller, who binds others
        self._parameters = parameters
        self._revision = revision

    # noexcept, as below: to compare and to copy fields of objects and arrays raises nothing
    cdef bint _is_current(self, object parameters) noexcept:
        return self._revision == _revision and self._parameters is parameters


cdef class RowCall(_BoundCall):
    """A plan of one row; `bindings` have one row.

    A long one runs on a team or on one thread, whichever is faster.
    """

    cdef Workspace _workspace
    cdef dlc_repeated_step *_step
    cdef _Array _row, _result
    cdef bint _is_long, _is_running
    cdef int32_t _thread_limit  # when it was made

    def __cinit__(
        self, Plan plan, list bindings, int64_t row, int64_t result, object parameters, revision
    ):
        cdef dlc_run run
        cdef Py_ssize_t i
        cdef int32_t threads = dlc_repeated_step_threads(plan._plan)
        self._thread_limit = dlc_get_num_threads()
        self._workspace = plan.take_workspace(threads)
        self._is_long = threads > 1 or dlc_plan_cost(plan._plan) > MOST_COST_WITH_GIL
        _describe_array(&self._row, (row, bindings[row].dtype, bindings[row].shape[1:]))
        _describe_array(&self._result, (result, bindings[result].dtype, bindings[result].shape[1:]))
        _set_one_step(&run, self._workspace, plan._n_slots)
        run.threads = threads
        for i in range(plan._n_slots):
            bind(&self._workspace.bindings[i], &plan._slots[i], i, bindings[i], &run)
        check(dlc_repeated_step_make(&self._step, plan._plan, &run))

    def __dealloc__(self):
        dlc_repeated_step_free(self._step)

    @property
    def team(self):
        """The threads of the last call; 0 before the first."""
        return dlc_repeated_step_team(self._step)

    def __call__(self, row, result, parameters):
        """``result``, or a new array where it is None, with the row's result.

        None unless both are arrays of the expected dtype and shape, in C order and apart; when
        ``parameters`` are others or a layer has changed, or a long one may have more threads; and
        while another thread is in a call of this.
        """
        cdef dlc_status status
        cdef cnp.ndarray out
        if self._is_running or not self._is_current(parameters):
            return None
        if self._is_long and self._thread_limit < dlc_get_num_threads():
            return None
        if not _fits(&self._row, row):
            return None
        if result is None:
            out = cnp.PyArray_EMPTY(
                self._result.ndim, self._result.shape, self._result.type_number, 0
            )
        else:
            if not _fits(&self._result, result) or not cnp.PyArray_ISWRITEABLE(result):
                return None
            out = result
            if _overlap(row, out):
                return None
        self._workspace.bindings[self._row.slot].data = cnp.PyArray_DATA(row)
        self._workspace.bindings[self._result.slot].data = cnp.PyArray_DATA(out)
        if self._is_long:
            self._is_running = True
            with nogil:
                status = dlc_repeated_step_run(self._step)
            self._is_running = False
        else:
            status = dlc_repeated_step_run(self._step)
        if status != DLC_OK:
            check(status)
        return out


cdef bint _overlap(cnp.ndarray a, cnp.ndarray b) noexcept:
    """Whether two C-contiguous arrays share memory."""
    cdef char *a_begin = <char *>cnp.PyArray_DATA(a)
    cdef char *b_begin = <char *>cnp.PyArray_DATA(b)
    return a_begin < b_begin + cnp.PyArray_NBYTES(b) and b_begin < a_begin + cnp.PyArray_NBYTES(a)


cdef inline void _bind_rows(dlc_binding *binding, cnp.ndarray array) noexcept:
    binding.data = cnp.PyArray_DATA(array)
    binding.count = cnp.PyArray_DIM(array, 0)


# Nanoseconds after which a run returns at the next step, so that Ctrl-C is seen; as team.BUDGET.
cdef int64_t BUDGET_NS = 100_000_000


cdef class BatchCall(_BoundCall):
    """A plan of any number of rows."""

    cdef dlc_binding *_bindings
    cdef _Array _rows, _results
    cdef int64_t _capacity
    cdef double _fixed_cost, _cost_of_row

    def __cinit__(
        self, Plan plan, list bindings, int64_t rows, int64_t results, object parameters, revision
    ):
        cdef dlc_run run
        cdef Py_ssize_t i
        cdef int64_t n_slots = plan._n_slots
        self._capacity = plan.row_capacity
        self._fixed_cost = <double>dlc_plan_fixed_cost(plan._plan)
        self._cost_of_row = (dlc_plan_cost(plan._plan) - self._fixed_cost) / self._capacity
        _describe_array(&self._rows, (rows, bindings[rows].dtype, bindings[rows].shape))
        _describe_array(&self._results, (results, bindings[results].dtype, bindings[results].shape))
        self._bindings = <dlc_binding *>malloc(<size_t>n_slots * sizeof(dlc_binding))
        if self._bindings == NULL:
            raise MemoryError(f"no memory for {n_slots} bindings")
        run.order = NULL
        run.epoch_rows = len(bindings[rows])
        run.step_end = 1
        for i in range(n_slots):
            bind(&self._bindings[i], &plan._slots[i], i, bindings[i], &run)

    def __dealloc__(self):
        free(self._bindings)

    def fits(self, rows, parameters):
        """Whether a call with these rows is right: an array as expected, of a row at least.

        Not when ``parameters`` are others, or a layer has changed.
        """
        return self._is_current(parameters) and self._has_rows(rows)

    # behind _fits it is an array
    cdef bint _has_rows(self, object rows) noexcept:
        return _fits(&self._rows, rows, 1) and cnp.PyArray_DIM(rows, 0) > 0

    def __call__(self, rows, packed=None):
        """The results of rows that fit, a new array that begins at a multiple of 64 bytes.

        ``packed`` is what the plan's ``pack`` made of the values that are bound, or None.
        """
        if not self._has_rows(rows):
            raise ValueError("rows are none that fit")
        cdef dlc_run run
        cdef const void *packed_data = self._plan.packed_data(packed)
        cdef cnp.npy_intp[DLC_MAX_NDIM] shape
        memcpy(shape, self._results.shape, sizeof(shape))
        shape[0] = cnp.PyArray_DIM(rows, 0)
        cdef cnp.ndarray results = aligned_array(
            self._results.ndim, shape, self._results.type_number
        )
        cdef Workspace workspace = self._plan.take_workspace(0)
        memcpy(workspace.bindings, self._bindings, <size_t>self._plan._n_slots * sizeof(dlc_binding))
        _bind_rows(&workspace.bindings[self._rows.slot], rows)
        _bind_rows(&workspace.bindings[self._results.slot], results)
        _set_one_step(&run, workspace, self._plan._n_slots)
        run.packed = packed_data
        run.epoch_rows = shape[0]
        run.batch_rows = min(shape[0], self._capacity)
        run.step_end = (shape[0] + run.batch_rows - 1) // run.batch_rows
        run.budget_ns = BUDGET_NS
        try:
            self._run(&run, self._fixed_cost + shape[0] * self._cost_of_row > MOST_COST_WITH_GIL)
        finally:
            self._plan._idle.append(workspace)
        return results

    cdef int _run(self, dlc_run *run, bint is_long) except -1:
        cdef dlc_status status
        while run.step_begin < run.step_end:
            if is_long:
                with nogil:
                    status = dlc_plan_run(self._plan._plan, run)
            else:
                status = dlc_plan_run(self._plan._plan, run)
            check(status)
            PyErr_CheckSignals()
            run.step_begin += run.steps_done
        return 0
