# Plans as other Cython code sees them; see _plan.pyx.
from libc.stdint cimport int32_t, int64_t, uint64_t

from dlcore._native cimport dlc_status


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
    int64_t dlc_plan_fixed_cost(const dlc_plan *plan)
    int64_t dlc_plan_packed_bytes(const dlc_plan *plan)
    void dlc_plan_packed_slots(void *is_packed, const dlc_plan *plan)  # bool, as NumPy's
    dlc_status dlc_plan_pack(
        void *packed, const dlc_plan *plan, const dlc_binding *bindings, int64_t n_bindings
    )

    ctypedef struct dlc_repeated_step:
        pass

    int32_t dlc_repeated_step_threads(const dlc_plan *plan)
    dlc_status dlc_repeated_step_make(
        dlc_repeated_step **step, const dlc_plan *plan, const dlc_run *run
    )
    void dlc_repeated_step_free(dlc_repeated_step *step)
    dlc_status dlc_repeated_step_run(dlc_repeated_step *step)
    int32_t dlc_repeated_step_team(const dlc_repeated_step *step)
    dlc_status dlc_arena_place(
        int64_t *offsets, int64_t *arena_bytes, const dlc_buffer *buffers, int64_t n
    )
    dlc_status dlc_op_register(const dlc_op_def *definition)


cdef class Workspace:
    cdef void *arena
    cdef int64_t arena_bytes
    cdef dlc_binding *bindings


cdef class Plan:
    cdef dlc_plan *_plan
    cdef const dlc_slot_record *_slots
    cdef int64_t _n_slots
    cdef list _idle  # workspaces that no run holds; list.append and list.pop are atomic
    cdef readonly bytes bytes
    cdef Workspace take_workspace(self, int32_t threads)
    cdef const void *packed_data(self, object packed) except? NULL


# What arrays bound to a slot hold
cdef int type_number_of(const dlc_slot_record *slot) noexcept
cdef object dtype_of(const dlc_slot_record *slot)

# Checks an array and points a binding at it. The caller keeps the array alive.
cdef int bind(
    dlc_binding *binding, const dlc_slot_record *slot, int64_t index, object value, const dlc_run *run
) except -1
