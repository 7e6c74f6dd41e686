"""Compute csrc/kernels/tables_f32.h: functions in 32 pieces, each a polynomial of its own.

Run it to print every table with its relative error:

    python tools/fit_tables.py

In a piece the function is c0 + d (c1 + d (c2 + ...)) with d = x - centre. A polynomial is
interpolated at Chebyshev's points in multiple precision (mpmath, from the extra ``dev``). One of
them is the centre, moved a little to where the function is nearly a float32, so that to round c0
costs next to nothing (the idea of Gal and Bachelis, An accurate elementary mathematical library for
the IEEE floating point standard, ACM TOMS 17, 1991).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mpmath as mp
import numpy as np
from fit_polynomials import Fit, literal, print_fit, remez, taylor_tail, to_dtype
from scipy import special

PIECES = 32  # numbers in two registers
Function = Callable[[mp.mpf], mp.mpf]
Piece = list[float]  # the centre, then coefficients, lowest degree first


@dataclass(frozen=True)
class Table:
    """A function whose piece number k (of 32) reaches from ``ends(k)[0]`` to ``ends(k)[1]``.

    ``nearby`` finds the values of the function at float32 numbers in a wider dtype, ``centre`` says
    which of n points, the largest first, is the centre.
    """

    name: str
    function: Function
    nearby: Callable[[np.ndarray], np.ndarray]
    degree: int
    ends: Callable[[int], tuple[float, float]]
    centre: Callable[[int], int] = lambda n: n // 2
    fixed: Callable[[float, float], Piece | None] = lambda low, high: None


def highest(n: int) -> int:
    """The centre of what falls steeply: the terms that follow add to c0, and nothing cancels."""
    return 0


def nearly_exact(table: Table, near: mp.mpf, reach: mp.mpf) -> float:
    """The float32 within ``reach`` of ``near`` where the function is nearest to a float32."""
    first, last = np.array([near - reach, near + reach], np.float32).view(np.int32)
    candidates = np.arange(first, last, max((last - first) >> 18, 1), np.int32).view(np.float32)
    exact = table.nearby(candidates.astype(np.longdouble))
    return float(candidates[np.argmin(abs(exact / exact.astype(np.float32) - 1))])


def interpolate(table: Table, low: float, high: float) -> Piece:
    n = table.degree + 1
    middle, half = (mp.mpf(low) + high) / 2, (mp.mpf(high) - low) / 2
    points = [middle + half * mp.cos(mp.pi * (2 * i + 1) / (2 * n)) for i in range(n)]
    point = points.pop(table.centre(n))
    centre = mp.mpf(nearly_exact(table, point, (half - abs(point - middle)) / 4))
    value = table.function(centre)
    powers = mp.matrix([[(x - centre) ** k for k in range(n - 1)] for x in points])
    slopes = mp.matrix([(table.function(x) - value) / (x - centre) for x in points])
    coefficients = [value, *mp.lu_solve(powers, slopes)]
    return [float(centre), *(to_dtype(c, "float32") for c in coefficients)]


def largest_error(table: Table, piece: Piece, low: float, high: float) -> mp.mpf:
    centre, *coefficients = map(mp.mpf, piece)
    xs = [low + (mp.mpf(high) - low) * i / 64 for i in range(65)]
    return max(
        abs(mp.polyval(coefficients[::-1], x - centre) / table.function(x) - 1)
        for x in xs
        if table.function(x) != 0
    )


def fit(table: Table) -> tuple[list[Piece], mp.mpf]:
    """The pieces and their largest relative error. Those that have no ends are all 0."""
    pieces, worst = [], mp.mpf(0)
    for k in range(PIECES):
        low, high = table.ends(k)
        if low >= high:
            pieces.append([0.0] * (table.degree + 2))
            continue
        piece = table.fixed(low, high) or interpolate(table, low, high)
        worst = max(worst, largest_error(table, piece, low, high))
        pieces.append(piece)
    return pieces, worst


def pieces_by_bits(
    first: float, kept: int, lowest: float, highest: float
) -> Callable[[int], tuple[float, float]]:
    """Pieces numbered by the lowest 5 bits of what stands above the ``kept`` lowest bits of a
    number, from ``first`` on. That one begins at ``lowest``; none reaches beyond ``highest``."""
    start = int(np.float32(first).view(np.int32)) >> kept

    def ends(k: int) -> tuple[float, float]:
        number = start + (k - start) % PIECES
        low, end = (np.array([number, number + 1], np.int32) << kept).view(np.float32)
        return lowest if number == start else float(low), min(float(end), highest)

    return ends


def even_pieces(scale: float) -> Callable[[int], tuple[float, float]]:
    """Pieces numbered by x * scale, rounded."""
    return lambda k: (max(k - 0.5, 0) / scale, (k + 0.5) / scale)


def pieces_by_square(scale: float, offset: float) -> Callable[[int], tuple[float, float]]:
    """Pieces numbered by scale * x * (x + offset), rounded: the larger x, the shorter."""

    def root(number: float) -> float:
        return float((np.sqrt(offset**2 + 4 * max(number, 0) / scale) - offset) / 2)

    return lambda k: (root(k - 0.5), root(k + 0.5))


# tanh: pieces of a quarter of an octave, the first all that lies below its end.
TANH_FIRST = 0.0625  # where the first would begin if it were like the others
TANH_ONE = 9.25  # where tanh is 1, whatever the rounding of its polynomial


def tanh_tail(z: mp.mpf) -> mp.mpf:
    """(tanh(x) / x - 1) / x^2 with z = x^2"""
    return taylor_tail(
        lambda y: (mp.tanh(mp.sqrt(y)) / mp.sqrt(y) - 1) / y,
        lambda y: -mp.mpf(1) / 3 + 2 * y / 15,
        z,
    )


def tanh_near_zero(low: float, high: float) -> Piece | None:
    """Odd, and x for small x."""
    if low > 0:
        return None
    tail = Fit("tanh", tanh_tail, lambda z: z, mp.mpf("1e-9"), mp.mpf(high) ** 2, {})
    cubic, quintic = (to_dtype(c, "float32") for c in remez(tail, 1))
    return [0.0, 0.0, 1.0, 0.0, cubic, 0.0, quintic]


# log of a mantissa in [LOG_FIRST, 2 LOG_FIRST): those next to 1 have their centre there.
LOG_FIRST = 0.75


def log_tail(d: mp.mpf) -> mp.mpf:
    """(log(1 + d) / d - 1) / d"""
    return taylor_tail(
        lambda x: (mp.log1p(x) / x - 1) / x, lambda x: -mp.mpf(1) / 2 + x / 3 - x * x / 4, d
    )


def log_near_one(low: float, high: float) -> Piece | None:
    if low != 1 and high != 1:
        return None
    tail = Fit("log", log_tail, abs, mp.mpf(low) - 1, mp.mpf(high) - 1, {})
    return [1.0, 0.0, 1.0, *(to_dtype(c, "float32") for c in remez(tail, 2))]


TABLES = [
    Table(
        "tanh",
        mp.tanh,
        np.tanh,
        5,
        pieces_by_bits(TANH_FIRST, 21, 0, TANH_ONE),
        fixed=tanh_near_zero,
    ),
    Table(
        "sigmoid",  # of -x
        lambda x: 1 / (1 + mp.exp(x)),
        lambda x: 1 / (1 + np.exp(x)),
        6,
        even_pieces(1.85),
        highest,
    ),
    Table(
        "normal",  # of -x
        lambda x: mp.ncdf(-x),
        lambda x: special.ndtr(-x.astype(np.float64)).astype(np.longdouble),
        7,
        pieces_by_square(0.29, 3),
        highest,
    ),
    Table(
        "log",
        mp.log,
        np.log,
        4,
        pieces_by_bits(LOG_FIRST, 18, LOG_FIRST, np.inf),
        fixed=log_near_one,
    ),
]


# exp: 2**n of multiples n of 1 / 32, times e**r of what is left.
SHORT_EXP = Fit(
    "short_exp",
    lambda r: taylor_tail(
        lambda x: (mp.expm1(x) - x) / x**2, lambda x: mp.mpf(1) / 2 + x / 6 + x * x / 24, r
    ),
    lambda r: r * r,
    -mp.log(2) / (2 * PIECES) * mp.mpf("1.001"),
    mp.log(2) / (2 * PIECES) * mp.mpf("1.001"),
    {"float32": 1},
)


def print_powers() -> None:
    print(f"static const real dlc_powers_of_two[{PIECES}] = {{")
    for i in range(0, PIECES, 4):
        powers = [to_dtype(mp.mpf(2) ** (mp.mpf(k) / PIECES), "float32") for k in range(i, i + 4)]
        print("    " + ", ".join(literal(power, "float32") for power in powers) + ",")
    print("};")


def print_table(table: Table) -> None:
    pieces, worst = fit(table)
    print(f"/* relative error 2^{float(mp.log(worst, 2)):.1f} */")
    print(f"static const real dlc_{table.name}_pieces[{table.degree + 2}][{PIECES}] = {{")
    for column in zip(*pieces, strict=True):
        print("    {")
        for i in range(0, PIECES, 4):
            print("        " + ", ".join(literal(c, "float32") for c in column[i : i + 4]) + ",")
        print("    },")
    print("};")


def main() -> None:
    for table in TABLES:
        print_table(table)
    print_powers()
    print_fit(SHORT_EXP, "float32")


if __name__ == "__main__":
    main()
