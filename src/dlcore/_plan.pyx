"""Plans, the native form of a compiled graph: loading them and running them over bound arrays."""

from libc.math cimport isinf
from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc
from posix.stdlib cimport posix_memalign

cimport numpy as cnp

from dlcore._native cimport DLC_MAX_NDIM, DLC_OK, check, dlc_status

from typing import NamedTuple

import numpy as np

from dlcore.memory import aligned_empty, is_mapped

cnp.import_array()


cdef extern from "plan/plan.h" nogil:
    enum:
        DLC_ALIGNMENT

    ctypedef struct dlc_plan:
        pass

    enum dlc_slot_kind:
        DLC_SLOT_FIXED
        DLC_SLOT_STREAM
        DLC_SLOT_STEP
        DLC_SLOT_DATASET

    ctypedef struct dlc_slot_record:
        int32_t kind
        int32_t writable
        int32_t dtype
        int64_t bytes

    ctypedef struct dlc_binding:
        void *data
        int64_t count
        bint is_mapped

    ctypedef struct dlc_run:
        const dlc_binding *bindings
        int64_t n_bindings
        const int64_t *order
        int64_t n_order
        int64_t epoch_rows, batch_rows
        int64_t step_begin, step_end
        uint64_t seed
        uint64_t counter
        const void *packed
        void *arena
        int64_t arena_bytes
        int32_t threads
        int32_t training
        int64_t budget_ns
        int64_t steps_done
        int32_t threads_used

    ctypedef struct dlc_op_def:
        pass

    ctypedef struct dlc_buffer:
        int64_t bytes
        int64_t first, last

    dlc_status dlc_plan_load(dlc_plan **plan, const void *bytes, int64_t n_bytes)
    void dlc_plan_free(dlc_plan *plan)
    const dlc_slot_record *dlc_plan_slots(int64_t *n_slots, const dlc_plan *plan)
    int64_t dlc_plan_row_capacity(const dlc_plan *plan)
    dlc_status dlc_plan_arena_bytes(int64_t *bytes, const dlc_plan *plan, int32_t threads)
    dlc_status dlc_plan_run(const dlc_plan *plan, dlc_run *run)
    int64_t dlc_plan_cost(const dlc_plan *plan)
    int64_t dlc_plan_packed_bytes(const dlc_plan *plan)
    void dlc_plan_packed_slots(void *is_packed, const dlc_plan *plan)  # bool, as NumPy's
    dlc_status dlc_plan_pack(
        void *packed, const dlc_plan *plan, const dlc_binding *bindings, int64_t n_bindings
    )

    ctypedef struct dlc_repeated_step:
        pass

    dlc_status dlc_repeated_step_make(
        dlc_repeated_step **step, const dlc_plan *plan, const dlc_run *run
    )
    void dlc_repeated_step_free(dlc_repeated_step *step)
    dlc_status dlc_repeated_step_run(dlc_repeated_step *step)
    dlc_status dlc_arena_place(
        int64_t *offsets, int64_t *arena_bytes, const dlc_buffer *buffers, int64_t n
    )
    dlc_status dlc_op_register(const dlc_op_def *definition)


cdef tuple _KINDS = ("FIXED", "STREAM", "STEP", "DATASET")
cdef tuple _UNITS = ("bytes", "rows", "steps", "rows")
cdef tuple _DTYPES = tuple(np.dtype(name) for name in ("f4", "f8", "u1", "i4", "i8", "?"))
cdef int[6] _TYPE_NUMBERS = [
    cnp.NPY_FLOAT32, cnp.NPY_FLOAT64, cnp.NPY_UINT8, cnp.NPY_INT32, cnp.NPY_INT64, cnp.NPY_BOOL,
]


class Slot(NamedTuple):
    """What a plan expects to be bound at one position.

    ``kind`` is "FIXED", "STREAM", "STEP" or "DATASET"; ``bytes`` counts all of a FIXED slot, else a
    row or a step of it.
    """

    kind: str
    dtype: np.dtype
    bytes: int
    writable: bool


cdef class _Workspace:
    """The memory of one run at a time: the arena, and the table of what is bound."""

    cdef void *arena
    cdef int64_t arena_bytes
    cdef dlc_binding *bindings

    def __cinit__(self, int64_t arena_bytes, int64_t n_slots):
        self.arena_bytes = arena_bytes
        if posix_memalign(&self.arena, DLC_ALIGNMENT, <size_t>arena_bytes) != 0:
            self.arena = NULL
            raise MemoryError(f"no memory for an arena of {arena_bytes} bytes")
        self.bindings = <dlc_binding *>calloc(<size_t>(n_slots + 1), sizeof(dlc_binding))
        if self.bindings == NULL:
            raise MemoryError(f"no memory for {n_slots} bindings")

    def __dealloc__(self):
        free(self.arena)
        free(self.bindings)


cdef str _describe(int64_t index, const dlc_slot_record *slot):
    return f"bindings[{index}] ({_KINDS[slot.kind]}, {_DTYPES[slot.dtype]})"


cdef int _bind_nothing(dlc_binding *binding, const dlc_slot_record *slot, int64_t index) except -1:
    if slot.bytes != 0:
        raise ValueError(f"{_describe(index, slot)} is None; expected an array")
    binding.data = NULL
    binding.is_mapped = False
    binding.count = 0 if slot.kind == DLC_SLOT_FIXED else INT64_MAX
    return 0


cdef int _bind(
    dlc_binding *binding, const dlc_slot_record *slot, int64_t index, object value, const dlc_run *run
) except -1:
    """Checks an array and points a binding at it. The caller keeps the array alive."""
    if value is None:
        return _bind_nothing(binding, slot, index)
    if not isinstance(value, cnp.ndarray):
        raise TypeError(f"{_describe(index, slot)} is a {type(value).__name__}; expected an array")
    cdef cnp.ndarray array = value
    if not (
        cnp.PyArray_EquivTypenums(cnp.PyArray_TYPE(array), _TYPE_NUMBERS[slot.dtype])
        and cnp.PyArray_ISNOTSWAPPED(array)
    ):
        raise TypeError(f"{_describe(index, slot)} has dtype {array.dtype}")
    if not (cnp.PyArray_IS_C_CONTIGUOUS(array) and cnp.PyArray_ISALIGNED(array)):
        raise ValueError(f"{_describe(index, slot)} is not C-contiguous and aligned")
    if slot.writable and not cnp.PyArray_ISWRITEABLE(array):
        raise ValueError(f"{_describe(index, slot)} is read-only, and the plan writes it")

    cdef int64_t n_bytes = cnp.PyArray_NBYTES(array)
    cdef int64_t unit = 1 if slot.kind == DLC_SLOT_FIXED else slot.bytes
    cdef int64_t needed = slot.bytes
    if slot.kind == DLC_SLOT_STREAM:
        needed = run.epoch_rows
    elif slot.kind == DLC_SLOT_STEP:
        needed = run.step_end
    elif slot.kind == DLC_SLOT_DATASET:
        needed = 0 if run.order != NULL else run.epoch_rows
    if unit > 0 and n_bytes % unit != 0:
        raise ValueError(f"{_describe(index, slot)} has {n_bytes} bytes, not a multiple of {unit}")
    binding.data = cnp.PyArray_DATA(array)
    binding.count = n_bytes // unit if unit > 0 else INT64_MAX
    binding.is_mapped = slot.kind == DLC_SLOT_DATASET and is_mapped(array)
    if binding.count < needed:
        raise ValueError(
            f"{_describe(index, slot)} has {binding.count} {_UNITS[slot.kind]}; the run needs {needed}"
        )
    return 0


cdef int _set_order(dlc_run *run, object order) except -1:
    if order is None:
        run.order = NULL
        run.n_order = 0
        return 0
    if not isinstance(order, cnp.ndarray):
        raise TypeError(f"order is a {type(order).__name__}; expected an array")
    cdef cnp.ndarray array = order
    if not (
        cnp.PyArray_EquivTypenums(cnp.PyArray_TYPE(array), cnp.NPY_INT64)
        and cnp.PyArray_ISCARRAY_RO(array)
        and cnp.PyArray_NDIM(array) == 1
    ):
        raise ValueError(
            f"order is {array.ndim}-D of dtype {array.dtype}; expected 1-D, contiguous, int64"
        )
    run.order = <const int64_t *>cnp.PyArray_DATA(array)
    run.n_order = cnp.PyArray_SIZE(array)
    return 0


cdef int64_t _nanoseconds(object budget) except -1:
    if budget is None:
        return 0
    cdef double seconds = budget
    if not seconds >= 0:
        raise ValueError(f"budget is {budget} seconds; expected at least 0")
    if isinf(seconds) or seconds > 1e9:
        return 0
    return max(<int64_t>(seconds * 1e9), 1)


cdef class Plan:
    """A validated plan.

    Plans are immutable, may be run by several threads at once, and pickle as their bytes.

    Parameters
    ----------
    data : bytes
        The plan's records; see csrc/plan/record.h.

    Raises
    ------
    dlcore.DlcoreError
        If a record is wrong; the message names it.
    """

    cdef dlc_plan *_plan
    cdef const dlc_slot_record *_slots
    cdef int64_t _n_slots
    cdef list _idle  # workspaces that no run holds; list.append and list.pop are atomic
    cdef readonly bytes bytes

    def __cinit__(self, data):
        self.bytes = bytes(data)
        self._idle = []
        check(dlc_plan_load(&self._plan, <const char *>self.bytes, len(self.bytes)))
        self._slots = dlc_plan_slots(&self._n_slots, self._plan)

    def __dealloc__(self):
        dlc_plan_free(self._plan)

    def __reduce__(self):
        return Plan, (self.bytes,)

    @property
    def slots(self):
        """What ``run`` expects as bindings: a tuple of `Slot`."""
        return tuple(
            Slot(
                _KINDS[self._slots[i].kind],
                _DTYPES[self._slots[i].dtype],
                self._slots[i].bytes,
                bool(self._slots[i].writable),
            )
            for i in range(self._n_slots)
        )

    @property
    def row_capacity(self):
        """The largest number of rows in a step."""
        return dlc_plan_row_capacity(self._plan)

    def arena_bytes(self, int32_t threads=0):
        """The memory in bytes of a run with `threads` threads (0: as many as the plan deserves)."""
        cdef int64_t n_bytes
        check(dlc_plan_arena_bytes(&n_bytes, self._plan, threads))
        return n_bytes

    @property
    def packed_bytes(self):
        """What `pack` takes; 0 where no op would gain by it."""
        return dlc_plan_packed_bytes(self._plan)

    @property
    def packed_slots(self):
        """The slots that `pack` reads: a tuple of their indices."""
        cdef cnp.ndarray is_packed = np.empty(self._n_slots, np.bool_)
        dlc_plan_packed_slots(cnp.PyArray_DATA(is_packed), self._plan)
        return tuple(np.flatnonzero(is_packed).tolist())

    def pack(self, bindings):
        """What FIXED slots hold, laid out once as the plan's products read it: an array for `run`.

        Parameters
        ----------
        bindings : sequence of ndarray or None
            One for each slot; only those of `packed_slots` are looked at.
        """
        cdef dlc_status status
        cdef int64_t i
        cdef tuple bound = tuple(bindings)
        if len(bound) != self._n_slots:
            raise ValueError(f"there are {len(bound)} bindings; the plan has {self._n_slots} slots")
        cdef cnp.ndarray packed = aligned_empty((self.packed_bytes,), np.uint8)
        cdef void *memory = cnp.PyArray_DATA(packed)
        cdef _Workspace workspace = _Workspace(0, self._n_slots)
        for i in self.packed_slots:  # FIXED, so that no run decides on their size
            _bind(&workspace.bindings[i], &self._slots[i], i, bound[i], NULL)
        with nogil:
            status = dlc_plan_pack(memory, self._plan, workspace.bindings, self._n_slots)
        check(status)
        return packed

    cdef _Workspace _take_workspace(self, int32_t threads):
        cdef int64_t needed
        cdef _Workspace workspace
        check(dlc_plan_arena_bytes(&needed, self._plan, threads))
        try:
            workspace = self._idle.pop()
        except IndexError:
            return _Workspace(needed, self._n_slots)
        if workspace.arena_bytes < needed:
            return _Workspace(needed, self._n_slots)
        return workspace

    def run(
        self,
        bindings,
        *,
        order=None,
        int64_t epoch_rows,
        int64_t batch_rows,
        int64_t step_begin=0,
        int64_t step_end,
        uint64_t seed=0,
        uint64_t counter=0,
        int32_t threads=0,
        bint training=False,
        budget=0.1,
        packed=None,
    ):
        """Run steps ``step_begin`` to ``step_end``, or as many of them as fit in ``budget``.

        Step s is the (s % n)-th of epoch s // n, where n = ceil(epoch_rows / batch_rows). It works on
        the positions from (s % n) * batch_rows on: batch_rows of them, or what is left of the epoch.

        Parameters
        ----------
        bindings : sequence of ndarray or None
            One for each slot: C-contiguous and of the slot's dtype, of at least its bytes (FIXED),
            ``epoch_rows`` rows (STREAM) or ``step_end`` entries (STEP). None where a slot has no bytes.
        order : ndarray of int64, optional
            The data set's row at each position, epoch after epoch from epoch 0 on. By default
            position p of every epoch is row p.
        epoch_rows, batch_rows : int
            Positions in an epoch, and rows of a step: 1 to `row_capacity`.
        step_begin, step_end : int
            The half-open range of steps.
        seed, counter : int
            Key of the random generator, and its counter at step 0.
        threads : int, default 0
            The most threads to use; 0 for as many as the plan deserves.
        training : bool, default False
            Flush subnormal numbers to zero during the run.
        budget : float or None, default 0.1
            Seconds after which the run stops at the end of a step. None: never.
        packed : ndarray, optional
            What `pack` made of the values that are bound.

        Returns
        -------
        steps_done : int
            Counted from ``step_begin``; at least 1 unless the range is empty.
        threads_used : int
            The size of the team that ran them.

        Raises
        ------
        ValueError, TypeError
            If a binding does not fit its slot, or a value found in the data is out of range. Of a
            step that fails nothing is kept.
        """
        cdef dlc_run run
        cdef dlc_status status
        cdef int64_t i
        cdef tuple bound = tuple(bindings)  # holds the arrays while the run uses their memory
        if len(bound) != self._n_slots:
            raise ValueError(f"there are {len(bound)} bindings; the plan has {self._n_slots} slots")
        if threads < 0:
            raise ValueError(f"threads is {threads}; expected at least 0")
        _set_order(&run, order)
        run.packed = self._packed_data(packed)
        run.n_bindings = self._n_slots
        run.epoch_rows = epoch_rows
        run.batch_rows = batch_rows
        run.step_begin = step_begin
        run.step_end = step_end
        run.seed = seed
        run.counter = counter
        run.threads = threads
        run.training = training
        run.budget_ns = _nanoseconds(budget)
        cdef _Workspace workspace = self._take_workspace(threads)
        run.arena = workspace.arena
        run.arena_bytes = workspace.arena_bytes
        run.bindings = workspace.bindings
        try:
            for i in range(self._n_slots):
                _bind(&workspace.bindings[i], &self._slots[i], i, bound[i], &run)
            with nogil:
                status = dlc_plan_run(self._plan, &run)
            check(status)
        finally:
            self._idle.append(workspace)
        return run.steps_done, run.threads_used

    cdef const void *_packed_data(self, object packed) except? NULL:
        if packed is None:
            return NULL
        if not isinstance(packed, cnp.ndarray):
            raise TypeError(f"packed is a {type(packed).__name__}; expected what pack returned")
        cdef cnp.ndarray array = packed
        if not (
            cnp.PyArray_TYPE(array) == cnp.NPY_UINT8
            and cnp.PyArray_ISCARRAY_RO(array)
            and cnp.PyArray_NBYTES(array) == dlc_plan_packed_bytes(self._plan)
        ):
            raise ValueError("packed is not what this plan's pack returned")
        return NULL if cnp.PyArray_NBYTES(array) == 0 else cnp.PyArray_DATA(array)


cdef void _set_one_step(dlc_run *run, _Workspace workspace, int64_t n_slots) noexcept:
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
    cnp.npy_intp shape[DLC_MAX_NDIM]


cdef int _describe_array(_Array *array, tuple description) except -1:
    slot, dtype, shape = description
    if len(shape) > DLC_MAX_NDIM:
        raise ValueError(f"an array has {len(shape)} axes; the limit is {DLC_MAX_NDIM}")
    array.slot = slot
    array.type_number = (<cnp.dtype>dtype).type_num
    array.ndim = len(shape)
    for i in range(array.ndim):
        array.shape[i] = shape[i]
    return 0


cdef bint _fits(const _Array *expected, object value) noexcept:
    if not cnp.PyArray_CheckExact(value):
        return False
    cdef cnp.ndarray array = value
    if (
        cnp.PyArray_NDIM(array) != expected.ndim
        or not cnp.PyArray_ISCARRAY_RO(array)
        or not cnp.PyArray_EquivTypenums(cnp.PyArray_TYPE(array), expected.type_number)
    ):
        return False
    for i in range(expected.ndim):
        if cnp.PyArray_DIM(array, i) != expected.shape[i]:
            return False
    return True


cdef class Call:
    """A plan of one step as a function of arrays.

    Parameters
    ----------
    plan : Plan
        Its slots are FIXED, but for those of results, which are STEP.
    arguments, results : sequence of (int, dtype, tuple of int)
        Slot (-1 for an argument that the plan does not read), dtype and shape.
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

    def __cinit__(self, Plan plan, arguments, results, constants, bint as_one):
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
            _describe_array(&self._arguments[i], arguments[i])
        for i in range(self._n_results):
            _describe_array(&self._results[i], results[i])

    def __dealloc__(self):
        free(self._arguments)
        free(self._results)

    def __call__(self, tuple arguments not None, uint64_t seed=0, uint64_t counter=0):
        """The results as arrays, or as NumPy's scalars where they have no axes.

        None unless every argument is an array of the expected dtype and shape, in C order. ``seed``
        and ``counter`` are the key of the random generator.
        """
        cdef Py_ssize_t i
        if len(arguments) != self._n_arguments:
            return None
        for i in range(self._n_arguments):
            if not _fits(&self._arguments[i], arguments[i]):
                return None
        cdef _Workspace workspace = self._plan._take_workspace(0)
        try:
            return self._run(arguments, workspace, seed, counter)
        finally:
            self._plan._idle.append(workspace)

    cdef object _run(
        self, tuple arguments, _Workspace workspace, uint64_t seed, uint64_t counter
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
        cdef int dtype = self._plan._slots[slot].dtype
        if cnp.PyArray_ISCARRAY_RO(array) and cnp.PyArray_EquivTypenums(
            cnp.PyArray_TYPE(array), _TYPE_NUMBERS[dtype]
        ):
            return array
        return np.require(array, _DTYPES[dtype], ["C_CONTIGUOUS", "ALIGNED"])

    cdef inline void _bind(self, dlc_binding *bindings, int64_t slot, cnp.ndarray array) noexcept:
        bindings[slot].data = cnp.PyArray_DATA(array)
        bindings[slot].count = 1  # the entry of a result for the one step
        if self._plan._slots[slot].kind == DLC_SLOT_FIXED:
            bindings[slot].count = cnp.PyArray_NBYTES(array)


# A run of more than that, in flops or elements, is some 10 microseconds or longer. It leaves the
# interpreter to other threads; to take it back costs up to 5 milliseconds when they hold it.
cdef int64_t MOST_COST_WITH_GIL = 1 << 17


# Of all that plans of models are made from; see outdate_row_calls.
cdef unsigned long long _revision = 0


def outdate_row_calls():
    """Lets every `RowCall` made so far, of whatever model, answer None: a layer has changed."""
    global _revision
    _revision += 1


def row_call_revision():
    """What tells later whether layers have changed since."""
    return _revision


cdef class RowCall:
    """A plan of one row as a function of that row, bound to everything else once.

    Parameters
    ----------
    plan : Plan
    bindings : list of ndarray
        One for each slot. Those of the row and of its result serve as examples of shape and dtype.
    row, result : int
        Their STREAM slots.
    parameters : object
        What was bound is right for calls that name this very object.
    revision : int
        `row_call_revision` of before the plan was looked up.
    """

    cdef Plan _plan
    cdef _Workspace _workspace
    cdef dlc_repeated_step *_step
    cdef list _bound  # holds the arrays whose memory is bound
    cdef _Array _row, _result
    cdef bint _is_long, _is_running
    cdef unsigned long long _revision
    cdef object _parameters

    def __cinit__(
        self,
        Plan plan,
        list bindings,
        int64_t row,
        int64_t result,
        object parameters,
        unsigned long long revision,
    ):
        cdef dlc_run run
        cdef Py_ssize_t i
        self._plan = plan
        self._workspace = plan._take_workspace(1)
        self._bound = list(bindings)
        self._bound[row] = self._bound[result] = None  # of the caller, who binds others
        self._parameters = parameters
        self._revision = revision
        self._is_long = dlc_plan_cost(plan._plan) > MOST_COST_WITH_GIL
        _describe_array(&self._row, (row, bindings[row].dtype, bindings[row].shape[1:]))
        _describe_array(&self._result, (result, bindings[result].dtype, bindings[result].shape[1:]))
        _set_one_step(&run, self._workspace, plan._n_slots)
        run.threads = 1
        for i in range(plan._n_slots):
            _bind(&self._workspace.bindings[i], &plan._slots[i], i, bindings[i], &run)
        check(dlc_repeated_step_make(&self._step, plan._plan, &run))

    def __dealloc__(self):
        dlc_repeated_step_free(self._step)

    def __call__(self, row, result, parameters):
        """``result``, or a new array where it is None, with the row's result.

        None unless both are arrays of the expected dtype and shape, in C order and apart; when
        ``parameters`` are others or a layer has changed; and while another thread is in a call of
        this.
        """
        cdef dlc_status status
        cdef cnp.ndarray out
        if self._is_running or self._revision != _revision or self._parameters is not parameters:
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


def register_op(address):
    """Add the op whose ``dlc_op_def`` (csrc/plan/op.h) lies at `address`, for the life of the process."""
    check(dlc_op_register(<const dlc_op_def *><uintptr_t>address))


def place_buffers(buffers):
    """Offsets in an arena for `buffers`, rows of (bytes, first op, last op), and the arena's bytes.

    Each is placed in turn, at the lowest offset where it overlaps none before it that is live with it.
    """
    cdef cnp.ndarray rows = np.ascontiguousarray(buffers, dtype=np.int64).reshape(-1, 3)
    cdef cnp.ndarray offsets = np.empty(len(rows), dtype=np.int64)
    cdef int64_t arena_bytes
    check(
        dlc_arena_place(
            <int64_t *>cnp.PyArray_DATA(offsets),
            &arena_bytes,
            <const dlc_buffer *>cnp.PyArray_DATA(rows),
            len(rows),
        )
    )
    return offsets.tolist(), arena_bytes
