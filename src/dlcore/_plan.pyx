"""Plans, the native form of a compiled graph: loading them and running them over bound arrays."""

from libc.math cimport isinf
from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from posix.stdlib cimport posix_memalign

cimport numpy as cnp

from dlcore._native cimport check, dlc_status

from typing import NamedTuple

import numpy as np

from dlcore.memory import aligned_empty, is_mapped

cnp.import_array()


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


cdef class Workspace:
    """The memory of one run at a time: the arena, and the table of what is bound."""

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


cdef int type_number_of(const dlc_slot_record *slot) noexcept:
    return _TYPE_NUMBERS[slot.dtype]


cdef object dtype_of(const dlc_slot_record *slot):
    return _DTYPES[slot.dtype]


cdef int _bind_nothing(dlc_binding *binding, const dlc_slot_record *slot, int64_t index) except -1:
    if slot.bytes != 0:
        raise ValueError(f"{_describe(index, slot)} is None; expected an array")
    binding.data = NULL
    binding.is_mapped = False
    binding.count = 0 if slot.kind == DLC_SLOT_FIXED else INT64_MAX
    return 0


cdef int bind(
    dlc_binding *binding, const dlc_slot_record *slot, int64_t index, object value, const dlc_run *run
) except -1:
    """Checks an array and points a binding at it. The caller keeps the array alive."""
    if value is None:
        return _bind_nothing(binding, slot, index)
    if not isinstance(value, cnp.ndarray):
        raise TypeError(f"{_describe(index, slot)} is a {type(value).__name__}; expected an array")
    cdef cnp.ndarray array = value
    if not (
        cnp.PyArray_EquivTypenums(cnp.PyArray_TYPE(array), type_number_of(slot))
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
        cdef Workspace workspace = Workspace(0, self._n_slots)
        for i in self.packed_slots:  # FIXED, so that no run decides on their size
            bind(&workspace.bindings[i], &self._slots[i], i, bound[i], NULL)
        with nogil:
            status = dlc_plan_pack(memory, self._plan, workspace.bindings, self._n_slots)
        check(status)
        return packed

    cdef Workspace take_workspace(self, int32_t threads):
        cdef int64_t needed
        cdef Workspace workspace
        check(dlc_plan_arena_bytes(&needed, self._plan, threads))
        try:
            workspace = self._idle.pop()
        except IndexError:
            return Workspace(needed, self._n_slots)
        if workspace.arena_bytes < needed:
            return Workspace(needed, self._n_slots)
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
        run.packed = self.packed_data(packed)
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
        cdef Workspace workspace = self.take_workspace(threads)
        run.arena = workspace.arena
        run.arena_bytes = workspace.arena_bytes
        run.bindings = workspace.bindings
        try:
            for i in range(self._n_slots):
                bind(&workspace.bindings[i], &self._slots[i], i, bound[i], &run)
            with nogil:
                status = dlc_plan_run(self._plan, &run)
            check(status)
        finally:
            self._idle.append(workspace)
        return run.steps_done, run.threads_used

    cdef const void *packed_data(self, object packed) except? NULL:
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
