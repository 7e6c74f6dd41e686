/* The instructions of map programs: one line an instruction. The codes stand in saved plans, so they
 * are never reused. Those that NumPy has under the same name give what NumPy gives for floats, zeros and infinities
 * included. What is true or false is 1 or 0 in the compute dtype; `where` and logical_* take any value != 0 for true.
 * NaN passes through every one of them as in NumPy (maximum, minimum and relu included). */
#ifndef DLC_MAP_OPS_H
#define DLC_MAP_OPS_H

/* Operands that are one number for all elements, as bits. */
enum { DLC_MAP_A = 1, DLC_MAP_B = 2, DLC_MAP_C = 4 };

/* X(CODE, NAME, name, arity) */
#define DLC_MAP_OPS(X)                         \
    X(0, COPY, copy, 1)                        \
    X(1, ADD, add, 2)                          \
    X(2, SUBTRACT, subtract, 2)                \
    X(3, MULTIPLY, multiply, 2)                \
    X(4, DIVIDE, divide, 2)                    \
    X(5, MAXIMUM, maximum, 2)                  \
    X(6, MINIMUM, minimum, 2)                  \
    X(7, POWER, power, 2)                      \
    X(8, NEGATIVE, negative, 1)                \
    X(9, ABSOLUTE, absolute, 1)                \
    X(10, SIGN, sign, 1)                       \
    X(11, SQUARE, square, 1)                   \
    X(12, SQRT, sqrt, 1)                       \
    X(13, RECIPROCAL, reciprocal, 1)           \
    X(14, EXP, exp, 1)                         \
    X(15, EXPM1, expm1, 1)                     \
    X(16, LOG, log, 1)                         \
    X(17, LOG1P, log1p, 1)                     \
    X(18, TANH, tanh, 1)                       \
    X(19, SIGMOID, sigmoid, 1)                 \
    X(20, SOFTPLUS, softplus, 1)               \
    X(21, ERF, erf, 1)                         \
    X(22, RELU, relu, 1)                       \
    X(23, LEAKY_RELU, leaky_relu, 2)           \
    X(24, ELU, elu, 2)                         \
    X(25, GELU, gelu, 1)                       \
    X(26, SILU, silu, 1)                       \
    X(27, GREATER, greater, 2)                 \
    X(28, GREATER_EQUAL, greater_equal, 2)     \
    X(29, LESS, less, 2)                       \
    X(30, LESS_EQUAL, less_equal, 2)           \
    X(31, EQUAL, equal, 2)                     \
    X(32, NOT_EQUAL, not_equal, 2)             \
    X(33, WHERE, where, 3)                     \
    X(34, MULTIPLY_ADD, multiply_add, 3)       \
    X(35, FLOOR, floor, 1)                     \
    X(36, CEIL, ceil, 1)                       \
    X(37, TRUNC, trunc, 1)                     \
    X(38, RINT, rint, 1)                       \
    X(39, SIN, sin, 1)                         \
    X(40, COS, cos, 1)                         \
    X(41, TAN, tan, 1)                         \
    X(42, ARCSIN, arcsin, 1)                   \
    X(43, ARCCOS, arccos, 1)                   \
    X(44, ARCTAN, arctan, 1)                   \
    X(45, SINH, sinh, 1)                       \
    X(46, COSH, cosh, 1)                       \
    X(47, ARCSINH, arcsinh, 1)                 \
    X(48, ARCCOSH, arccosh, 1)                 \
    X(49, ARCTANH, arctanh, 1)                 \
    X(50, CBRT, cbrt, 1)                       \
    X(51, LOG2, log2, 1)                       \
    X(52, LOG10, log10, 1)                     \
    X(53, EXP2, exp2, 1)                       \
    X(54, ARCTAN2, arctan2, 2)                 \
    X(55, REMAINDER, remainder, 2)             \
    X(56, FMOD, fmod, 2)                       \
    X(57, FLOOR_DIVIDE, floor_divide, 2)       \
    X(58, HYPOT, hypot, 2)                     \
    X(59, COPYSIGN, copysign, 2)               \
    X(60, LOGADDEXP, logaddexp, 2)             \
    X(61, LOGICAL_AND, logical_and, 2)         \
    X(62, LOGICAL_OR, logical_or, 2)           \
    X(63, LOGICAL_XOR, logical_xor, 2)         \
    X(64, LOGICAL_NOT, logical_not, 1)         \
    X(65, ISNAN, isnan, 1)                     \
    X(66, ISINF, isinf, 1)                     \
    X(67, ISFINITE, isfinite, 1)               \
    X(68, MULTIPLY_SUBTRACT, multiply_subtract, 3) \
    X(69, SUBTRACT_MULTIPLY, subtract_multiply, 3) \
    X(70, WHERE_POSITIVE, where_positive, 3)   \
    X(71, TANH_GRADIENT, tanh_gradient, 2)

typedef enum dlc_map_op {
#define X(code, NAME, name, arity) DLC_MAP_##NAME = code,
    DLC_MAP_OPS(X)
#undef X
    DLC_MAP_OP_COUNT
} dlc_map_op;

#endif
