#include "map/map.h"

#include <string.h>

#include "core/sizes.h"

static const uint8_t arity_of[DLC_MAP_OP_COUNT] = {
#define X(code, NAME, name, arity) [code] = arity,
    DLC_MAP_OPS(X)
#undef X
};

static const char *const name_of[DLC_MAP_OP_COUNT] = {
#define X(code, NAME, name, arity) [code] = #name,
    DLC_MAP_OPS(X)
#undef X
};

int dlc_map_arity(int op) { return arity_of[op]; }

const char *dlc_map_name(int op) { return name_of[op]; }

/* About how many flops polynomials cost, those of several or with quotients and roots, and calls of C's functions element by
 * element; arithmetic, comparisons and rounding cost one. */
enum { POLYNOMIAL_COST = 16, LONG_POLYNOMIAL_COST = 48, C_FUNCTION_COST = 64 };

static int op_cost(int op)
{
    switch (op) {
    case DLC_MAP_EXP:
    case DLC_MAP_EXPM1:
    case DLC_MAP_LOG:
    case DLC_MAP_LOG1P:
    case DLC_MAP_TANH:
    case DLC_MAP_SIGMOID:
    case DLC_MAP_SOFTPLUS:
    case DLC_MAP_ERF:
    case DLC_MAP_ELU:
    case DLC_MAP_GELU:
    case DLC_MAP_SILU:
    case DLC_MAP_LOGADDEXP:
    case DLC_MAP_SIN:
    case DLC_MAP_COS:
    case DLC_MAP_ARCSIN:
    case DLC_MAP_ARCCOS:
    case DLC_MAP_ARCTAN:
    case DLC_MAP_SINH:
    case DLC_MAP_COSH:
    case DLC_MAP_LOG2:
    case DLC_MAP_LOG10:
    case DLC_MAP_EXP2:
    case DLC_MAP_HYPOT:
        return POLYNOMIAL_COST;
    case DLC_MAP_POWER:
    case DLC_MAP_TAN:
    case DLC_MAP_ARCTAN2:
    case DLC_MAP_ARCSINH:
    case DLC_MAP_ARCCOSH:
    case DLC_MAP_ARCTANH:
    case DLC_MAP_CBRT:
        return LONG_POLYNOMIAL_COST;
    case DLC_MAP_REMAINDER:
    case DLC_MAP_FMOD:
    case DLC_MAP_FLOOR_DIVIDE:
        return C_FUNCTION_COST;
    default:
        return 1;
    }
}

void dlc_map_program_init(dlc_map_program *program, int32_t dtype, int32_t n_out, int32_t n_in, int32_t reduction)
{
    program->dtype = dtype;
    program->n_out = n_out;
    program->n_in = n_in;
    program->n_literals = program->n_temps = program->n_instructions = 0;
    program->filled_literals = program->new_outputs = 0;
    program->reduction = reduction;
    program->n_reduced = reduction == DLC_REDUCE_NONE ? 0 : n_out;
}

/* Which of these operands, as bits, the op's kernel takes as one number. */
static unsigned numbers_taken(int op, unsigned literals)
{
    switch (op) {
    case DLC_MAP_ADD:
    case DLC_MAP_SUBTRACT:
    case DLC_MAP_MULTIPLY:
    case DLC_MAP_DIVIDE:
    case DLC_MAP_MAXIMUM:
    case DLC_MAP_MINIMUM:
    case DLC_MAP_LEAKY_RELU:
    case DLC_MAP_GREATER:
    case DLC_MAP_GREATER_EQUAL:
    case DLC_MAP_LESS:
    case DLC_MAP_LESS_EQUAL:
    case DLC_MAP_EQUAL:
    case DLC_MAP_NOT_EQUAL:
        return literals & DLC_MAP_B ? DLC_MAP_B : literals & DLC_MAP_A;
    case DLC_MAP_WHERE:
    case DLC_MAP_WHERE_POSITIVE:
    case DLC_MAP_MULTIPLY_ADD:
    case DLC_MAP_MULTIPLY_SUBTRACT:
    case DLC_MAP_SUBTRACT_MULTIPLY:
        return literals & (DLC_MAP_B | DLC_MAP_C);
    default:
        return 0;
    }
}

static void add_instruction(dlc_map_program *program, int index, uint16_t op, uint8_t dst, uint8_t a, uint8_t b,
                            uint8_t c)
{
    const uint8_t read[3] = {a, arity_of[op] > 1 ? b : a, arity_of[op] > 2 ? c : a};
    int first = program->n_out + program->n_in;
    unsigned literals = 0;
    for (int i = 0; i < arity_of[op]; i++)
        if (read[i] >= first && read[i] < first + program->n_literals)
            literals |= 1u << i;
    unsigned numbers = numbers_taken(op, literals);
    for (int i = 0; i < arity_of[op]; i++)
        if ((literals & ~numbers) >> i & 1)
            program->filled_literals |= 1u << (read[i] - first);
    program->instructions[index] = (dlc_map_instruction){op, dst, read[0], read[1], read[2], (uint8_t)numbers};
}

void dlc_map_emit(dlc_map_program *program, dlc_map_op op, int dst, int a, int b, int c)
{
    add_instruction(program, program->n_instructions++, (uint16_t)op, (uint8_t)dst, (uint8_t)a, (uint8_t)b, (uint8_t)c);
}

enum { HEAD_WORDS = 8 };

static dlc_status decode_counts(dlc_map_program *program, const int64_t *words, int64_t n_words,
                                bool first_defined)
{
    if (n_words < HEAD_WORDS)
        return dlc_fail(DLC_INVALID_PLAN, "a map program has %lld words, but its head alone has %d",
                        (long long)n_words, HEAD_WORDS);
    static const struct {
        const char *name;
        int64_t low, high;
    } field[HEAD_WORDS] = {
        {"dtype", 0, DLC_REAL_COUNT - 1},
        {"number of outputs", 1, DLC_MAP_MAX_OPERANDS},
        {"number of inputs", 0, DLC_MAP_MAX_OPERANDS},
        {"reduction", 0, DLC_REDUCTION_COUNT - 1},
        {"number of reduced outputs", 0, DLC_MAP_MAX_OPERANDS},
        {"number of literals", 0, DLC_MAP_MAX_LITERALS},
        {"number of temporaries", 0, DLC_MAP_MAX_TEMPS},
        {"number of instructions", 0, DLC_MAP_MAX_INSTRUCTIONS},
    };
    for (int i = 0; i < HEAD_WORDS; i++)
        if (words[i] < field[i].low || words[i] > field[i].high)
            return dlc_fail(DLC_INVALID_PLAN, "the %s of a map program is %lld, not in %lld..%lld", field[i].name,
                            (long long)words[i], (long long)field[i].low, (long long)field[i].high);
    program->dtype = (int32_t)words[0];
    program->n_out = (int32_t)words[1];
    program->n_in = (int32_t)words[2];
    program->reduction = (int32_t)words[3];
    program->n_reduced = (int32_t)words[4];
    program->n_literals = (int32_t)words[5];
    program->n_temps = (int32_t)words[6];
    program->n_instructions = (int32_t)words[7];
    program->filled_literals = program->new_outputs = 0;
    if (program->n_out + program->n_in > DLC_MAP_MAX_OPERANDS)
        return dlc_fail(DLC_INVALID_PLAN, "a map program has %d operands; the limit is %d",
                        program->n_out + program->n_in, DLC_MAP_MAX_OPERANDS);
    if ((program->reduction == DLC_REDUCE_NONE) != (program->n_reduced == 0) || program->n_reduced > program->n_out)
        return dlc_fail(DLC_INVALID_PLAN, "reduction %d of a map program takes %d of %d outputs", program->reduction,
                        program->n_reduced, program->n_out);
    if (first_defined && program->reduction != DLC_REDUCE_NONE)
        return dlc_fail(DLC_INVALID_PLAN, "the map program of a matrix product's store cannot reduce");
    int64_t expected = HEAD_WORDS + 2 * (int64_t)program->n_literals + program->n_instructions;
    if (n_words != expected)
        return dlc_fail(DLC_INVALID_PLAN, "a map program has %lld words, but its counts ask for %lld",
                        (long long)n_words, (long long)expected);
    return DLC_OK;
}

static dlc_status decode_instruction(dlc_map_program *program, int64_t word, int index)
{
    if ((uint64_t)word >> 48)
        return dlc_fail(DLC_INVALID_PLAN, "instruction %d of a map program has bits set above its fields", index);
    uint16_t op = (uint16_t)word;
    if (op >= DLC_MAP_OP_COUNT)
        return dlc_fail(DLC_INVALID_PLAN, "instruction %d of a map program has the unknown code %d", index, op);
    add_instruction(program, index, op, (uint8_t)(word >> 16), (uint8_t)(word >> 24), (uint8_t)(word >> 32),
                    (uint8_t)(word >> 40));
    return DLC_OK;
}

/* Follows the definitions: nothing is read before it is written, and every output is written. */
static dlc_status check_definitions(const dlc_map_program *program, bool first_defined)
{
    int first_input = program->n_out;
    int first_temp = program->n_out + program->n_in + program->n_literals;
    int n_registers = first_temp + program->n_temps;
    bool defined[DLC_MAP_MAX_REGISTERS] = {false};

    for (int r = first_input; r < first_temp; r++)
        defined[r] = true;
    defined[0] = first_defined;
    for (int i = 0; i < program->n_instructions; i++) {
        const dlc_map_instruction *instruction = &program->instructions[i];
        const uint8_t read[3] = {instruction->a, instruction->b, instruction->c};
        for (int j = 0; j < 3; j++)
            if (read[j] >= n_registers || !defined[read[j]])
                return dlc_fail(DLC_INVALID_PLAN, "instruction %d of a map program reads register %d, which %s", i,
                                read[j], read[j] >= n_registers ? "does not exist" : "holds nothing yet");
        int dst = instruction->dst;
        if (dst >= n_registers || (dst >= first_input && dst < first_temp))
            return dlc_fail(DLC_INVALID_PLAN,
                            "instruction %d of a map program writes register %d, which is no output or temporary", i,
                            dst);
        defined[dst] = true;
    }
    for (int r = 0; r < program->n_out; r++)
        if (!defined[r])
            return dlc_fail(DLC_INVALID_PLAN, "output %d of a map program is never written", r);
    return DLC_OK;
}

dlc_status dlc_map_decode(dlc_map_program *program, const int64_t *words, int64_t n_words, bool first_defined)
{
    DLC_TRY(decode_counts(program, words, n_words, first_defined));
    words += HEAD_WORDS;
    for (int i = 0; i < program->n_literals; i++, words += 2) {
        memcpy(&program->literals[i].value, &words[0], sizeof(double));
        program->literals[i].power = words[1];
        if (words[1] < -1 || words[1] > 1)
            return dlc_fail(DLC_INVALID_PLAN, "literal %d of a map program has the power %lld, not -1, 0 or 1", i,
                            (long long)words[1]);
    }
    for (int i = 0; i < program->n_instructions; i++)
        DLC_TRY(decode_instruction(program, words[i], i));
    return check_definitions(program, first_defined);
}

static bool reads(const dlc_map_instruction *instruction, int r)
{
    return instruction->a == r || instruction->b == r || instruction->c == r;
}

bool dlc_map_is_unread(const dlc_map_program *program, int begin, int r)
{
    for (int i = begin; i < program->n_instructions; i++)
        if (reads(&program->instructions[i], r))
            return false;
    return true;
}

/* Whether the result of the first instruction, a temporary, can lie in register 0 until another takes its name: what register 0
 * held before is read by none, and is no output, as it is overwritten. */
static bool fits_register_0(const dlc_map_program *program, int result)
{
    bool is_overwritten = false, is_renamed = false;
    for (int i = 1; i < program->n_instructions; i++) {
        const dlc_map_instruction *instruction = &program->instructions[i];
        const bool reads_result = !is_renamed && reads(instruction, result);
        if ((reads(instruction, 0) && !is_overwritten) || (reads_result && is_overwritten))
            return false;
        is_overwritten = is_overwritten || instruction->dst == 0;
        is_renamed = is_renamed || instruction->dst == result;
    }
    return is_overwritten;
}

static uint8_t other_if(uint8_t operand, int r, int other) { return operand == r ? (uint8_t)other : operand; }

bool dlc_map_drop_first(dlc_map_program *program)
{
    const int result = program->instructions[0].dst;
    const int first_temp = program->n_out + program->n_in + program->n_literals;
    if (result != 0 && (result < first_temp || !fits_register_0(program, result)))
        return false;
    program->n_instructions--;
    memmove(program->instructions, program->instructions + 1, (size_t)program->n_instructions * sizeof program->instructions[0]);
    for (int i = 0; result != 0 && i < program->n_instructions; i++) {
        dlc_map_instruction *instruction = &program->instructions[i];
        instruction->a = other_if(instruction->a, result, 0);
        instruction->b = other_if(instruction->b, result, 0);
        instruction->c = other_if(instruction->c, result, 0);
        if (instruction->dst == result)
            break;
    }
    return true;
}

static uint8_t without(uint8_t operand, int r) { return (uint8_t)(operand - (operand > r)); }

void dlc_map_drop_input(dlc_map_program *program, int r)
{
    program->n_in--;
    for (int i = 0; i < program->n_instructions; i++) {
        dlc_map_instruction *instruction = &program->instructions[i];
        instruction->dst = without(instruction->dst, r);
        instruction->a = without(instruction->a, r);
        instruction->b = without(instruction->b, r);
        instruction->c = without(instruction->c, r);
    }
}

static dlc_status check_output(const dlc_map_program *program, const dlc_array *arrays, int index,
                               const int64_t *shape, int32_t ndim, int64_t count)
{
    const dlc_array *out = &arrays[index];
    if (out->dtype != program->dtype)
        return dlc_fail(DLC_INVALID_ARGUMENT, "output %d of a map has dtype code %d, but it computes in %d", index,
                        out->dtype, program->dtype);
    for (int axis = 0; axis < ndim; axis++) {
        bool reduced = out->shape[axis] != shape[axis], is_taken = index < program->n_reduced;
        if (reduced && !is_taken)
            return dlc_fail(DLC_INVALID_ARGUMENT,
                            "output %d of a map has extent 1 on axis %d, but the space has %lld and it is not reduced",
                            index, axis, (long long)shape[axis]);
        if (is_taken && reduced != (arrays[0].shape[axis] != shape[axis]))
            return dlc_fail(DLC_INVALID_ARGUMENT, "outputs 0 and %d of a map are not reduced over the same axes",
                            index);
        if (!reduced && shape[axis] > 1 && count > 0 && out->stride[axis] == 0)
            return dlc_fail(DLC_INVALID_ARGUMENT, "output %d of a map has stride 0 on axis %d of extent %lld", index,
                            axis, (long long)shape[axis]);
    }
    return DLC_OK;
}

dlc_status dlc_map_check(const dlc_map_program *program, const dlc_array *arrays, const int64_t *shape,
                         int32_t ndim)
{
    int64_t count;
    if (ndim < 0 || ndim > DLC_MAX_NDIM)
        return dlc_fail(DLC_INVALID_ARGUMENT, "a map has %d axes; the limit is %d", ndim, DLC_MAX_NDIM);
    DLC_TRY(dlc_element_count(&count, shape, ndim, "the space of a map"));
    for (int i = 0; i < program->n_out + program->n_in; i++) {
        const dlc_array *array = &arrays[i];
        if (array->dtype < 0 || array->dtype >= DLC_DTYPE_COUNT)
            return dlc_fail(DLC_INVALID_ARGUMENT, "operand %d of a map has the unknown dtype code %d", i,
                            array->dtype);
        if (array->ndim != ndim)
            return dlc_fail(DLC_INVALID_ARGUMENT, "operand %d of a map has %d axes, but the space has %d", i,
                            array->ndim, ndim);
        for (int axis = 0; axis < ndim; axis++)
            if (array->shape[axis] != shape[axis] && array->shape[axis] != 1)
                return dlc_fail(DLC_INVALID_ARGUMENT,
                                "operand %d of a map has extent %lld on axis %d, but the space has %lld", i,
                                (long long)array->shape[axis], axis, (long long)shape[axis]);
    }
    for (int i = 0; i < program->n_out; i++)
        DLC_TRY(check_output(program, arrays, i, shape, ndim, count));
    return DLC_OK;
}

int64_t dlc_map_instruction_cost(const dlc_map_program *program)
{
    int64_t cost = 0;
    for (int i = 0; i < program->n_instructions; i++)
        cost += op_cost(program->instructions[i].op);
    return cost;
}

int64_t dlc_map_cost(const dlc_map_program *program, const int64_t *shape, int32_t ndim)
{
    int64_t cost = program->n_out + program->n_in + dlc_map_instruction_cost(program);
    for (int axis = 0; axis < ndim; axis++)
        if (shape[axis] == 0)
            return 0;
    for (int axis = 0; axis < ndim; axis++)
        cost = dlc_cost_mul(cost, shape[axis]);
    return cost;
}
