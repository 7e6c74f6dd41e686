"""Compute the polynomial coefficients of csrc/kernels/math_f32.h and math_f64.h.

Run it to print every table with the relative error of the rounded coefficients:

    python tools/fit_polynomials.py

Each polynomial is the weighted minimax approximation found by the Remez exchange algorithm in
multiple precision (mpmath, from the extra ``dev``), its coefficients rounded to the target format.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mpmath as mp
import numpy as np

mp.mp.dps = 50

Function = Callable[[mp.mpf], mp.mpf]


@dataclass(frozen=True)
class Fit:
    """One polynomial: minimise max |weight(x) * (sum_k c_k x^k - target(x))| on [low, high]."""

    name: str
    target: Function
    weight: Function
    low: mp.mpf
    high: mp.mpf
    degree: dict[str, int]


def solve(fit: Fit, points: list[mp.mpf]) -> list[mp.mpf]:
    """The polynomial whose weighted error alternates over ``points`` (degree + 2 of them)."""
    n = len(points)
    matrix, rhs = mp.matrix(n, n), mp.matrix(n, 1)
    for i, x in enumerate(points):
        w = fit.weight(x)
        for k in range(n - 1):
            matrix[i, k] = w * x**k
        matrix[i, n - 1] = (-1) ** i
        rhs[i] = w * fit.target(x)
    return list(mp.lu_solve(matrix, rhs))[:-1]


def error(fit: Fit, coefficients: list[mp.mpf], x: mp.mpf) -> mp.mpf:
    return fit.weight(x) * (mp.polyval(coefficients[::-1], x) - fit.target(x))


def grid(fit: Fit, n: int) -> list[mp.mpf]:
    """Chebyshev points of [low, high], ascending, the ends left out."""
    middle, half = (fit.low + fit.high) / 2, (fit.high - fit.low) / 2
    return [middle - half * mp.cos(mp.pi * (2 * i + 1) / (2 * n)) for i in range(n)]


def extrema(errors: list[mp.mpf], xs: list[mp.mpf], n: int) -> list[mp.mpf]:
    """The n points of largest error, one in each run of equal sign."""
    peaks: list[int] = []
    for i, e in enumerate(errors):
        if peaks and mp.sign(errors[peaks[-1]]) == mp.sign(e):
            if abs(e) > abs(errors[peaks[-1]]):
                peaks[-1] = i
        else:
            peaks.append(i)
    while len(peaks) > n:
        del peaks[0 if abs(errors[peaks[0]]) < abs(errors[peaks[-1]]) else -1]
    return [xs[i] for i in peaks]


def remez(fit: Fit, degree: int) -> list[mp.mpf]:
    """Coefficients of the minimax polynomial, lowest degree first."""
    xs = grid(fit, 24 * (degree + 2))
    points = grid(fit, degree + 2)
    for _ in range(12):
        coefficients = solve(fit, points)
        found = extrema([error(fit, coefficients, x) for x in xs], xs, degree + 2)
        if len(found) < degree + 2 or found == points:
            break
        points = found
    return coefficients


def rational_remez(
    target: Function, weight: Function, high: mp.mpf, degrees: tuple[int, int]
) -> tuple[list[mp.mpf], list[mp.mpf]]:
    """Numerator and denominator (lowest term 1) with the least weighted error on [0, high].

    The equations weight (N - target D) = +-E D at the points are linear once D on the right is that
    of the step before. Points crowd at 0 as Chebyshev points do in (x - 2) / (x + 2).
    """
    m, n = degrees
    size = m + n + 2
    q_high = (high - 2) / (high + 2)

    def at(position: mp.mpf) -> mp.mpf:
        q = (q_high - 1) / 2 - (q_high + 1) / 2 * mp.cos(mp.pi * position)
        return 2 * (1 + q) / (1 - q)

    xs = [at(mp.mpf(i) / (16 * size)) for i in range(16 * size + 1)]
    points = [at(mp.mpf(i) / (size - 1)) for i in range(size)]
    denominator = [mp.binomial(n, k) for k in range(n + 1)]
    for _ in range(12):
        for _ in range(6):
            matrix, rhs = mp.matrix(size, size), mp.matrix(size, 1)
            for i, x in enumerate(points):
                scale = weight(x) / mp.polyval(denominator[::-1], x)
                for k in range(m + 1):
                    matrix[i, k] = scale * x**k
                for k in range(1, n + 1):
                    matrix[i, m + k] = -scale * target(x) * x**k
                matrix[i, size - 1] = (-1) ** i
                rhs[i] = scale * target(x)
            solution = list(mp.lu_solve(matrix, rhs))
            numerator, denominator = solution[: m + 1], [mp.mpf(1), *solution[m + 1 : -1]]
        errors = [
            weight(x) * (mp.polyval(numerator[::-1], x) / mp.polyval(denominator[::-1], x) - f)
            for x in xs
            for f in [target(x)]
        ]
        found = extrema(errors, xs, size)
        if len(found) < size or found == points:
            break
        points = found
    return numerator, denominator


def to_dtype(value: mp.mpf, dtype: str) -> float:
    return float(np.dtype(dtype).type(mp.nstr(value, 30)))


def largest_error(fit: Fit, coefficients: list[float]) -> mp.mpf:
    exact = [mp.mpf(c) for c in coefficients]
    return max(abs(error(fit, exact, x)) for x in grid(fit, 997))


def split(value: mp.mpf, dtype: str, bits: int) -> tuple[float, float]:
    """value as high + low, high with ``bits`` significant bits."""
    scale = mp.mpf(2) ** (bits - 1 - int(mp.floor(mp.log(value, 2))))
    high = mp.nint(value * scale) / scale
    return float(high), to_dtype(value - high, dtype)


def taylor_tail(f: Function, series: Function, x: mp.mpf) -> mp.mpf:
    """f, which loses all digits at 0, taken from its series there."""
    return series(x) if abs(x) < mp.mpf("1e-12") else f(x)


HALF_LN2 = mp.log(2) / 2 * mp.mpf("1.001")  # n = round(x / ln 2) is off by a rounding error
LN2_HIGH_BITS = {"float32": 12, "float64": 32}  # times an exponent, it is exact
ROOT_HALF = mp.sqrt(mp.mpf(1) / 2)
# The range is that of gelu(-x) not 0.
NORMAL_TAIL = {"float32": (mp.mpf("14.6"), (4, 5)), "float64": (mp.mpf(39), (9, 10))}
NORMAL_TAIL_LIMIT = mp.sqrt(2 / mp.pi)


def normal_tail(x: mp.mpf) -> mp.mpf:
    """exp(x^2 / 2) erfc(x / sqrt(2)) = sqrt(2 / pi) / (x + S(x))"""
    return mp.exp(x * x / 2) * mp.erfc(x * ROOT_HALF)


def normal_tail_rest(x: mp.mpf) -> mp.mpf:
    """S falls from sqrt(2 / pi) to 1 / x: where x is large, little of its error reaches the result.
    All coefficients come out positive: nothing cancels."""
    return NORMAL_TAIL_LIMIT / normal_tail(x) - x


def fit_normal_tail(dtype: str) -> tuple[list[float], list[float], mp.mpf]:
    """Rounded numerator and denominator of S and the relative error of x + S. Both may be scaled by
    one factor: below 2, so that their sums at small x are rounded relatively finely, and of those
    tried the one whose rounded coefficients do best."""
    high, degrees = NORMAL_TAIL[dtype]
    exact = rational_remez(
        normal_tail_rest, lambda x: normal_tail(x) / NORMAL_TAIL_LIMIT, high, degrees
    )
    xs = [high * (mp.mpf(i) / 60) ** 2 for i in range(61)]
    truth = [NORMAL_TAIL_LIMIT / normal_tail(x) for x in xs]

    def scaled(step: int) -> tuple[list[float], list[float]]:
        numerator, denominator = (
            [to_dtype(c * (1 + mp.mpf(step) / 256), dtype) for c in part] for part in exact
        )
        return numerator, denominator

    def worst(step: int) -> mp.mpf:
        numerator, denominator = scaled(step)
        return max(
            abs((x + mp.polyval(numerator[::-1], x) / mp.polyval(denominator[::-1], x)) / t - 1)
            for x, t in zip(xs, truth, strict=True)
        )

    best = min(range(192, 256), key=worst)
    return *scaled(best), worst(best)


def exp_tail(r: mp.mpf) -> mp.mpf:
    """(exp(r) - 1 - r - r^2 / 2) / r^3"""
    return taylor_tail(
        lambda x: (mp.expm1(x) - x - x * x / 2) / x**3, lambda x: mp.mpf(1) / 6 + x / 24, r
    )


def log_tail(f: mp.mpf) -> mp.mpf:
    """(log(1 + f) - f + f^2 / 2) / f^3"""
    return taylor_tail(
        lambda x: (mp.log1p(x) - x + x * x / 2) / x**3, lambda x: mp.mpf(1) / 3 - x / 4, f
    )


def atanh_tail(z: mp.mpf) -> mp.mpf:
    """(log((1 + s) / (1 - s)) - 2 s) / s^3 with z = s^2"""

    def direct(x: mp.mpf) -> mp.mpf:
        s = mp.sqrt(x)
        return (2 * mp.atanh(s) - 2 * s) / s**3

    return taylor_tail(direct, lambda x: mp.mpf(2) / 3 + 2 * x / 5, z)


def erf_tail(z: mp.mpf) -> mp.mpf:
    """erf(x) / x - 1 with z = x^2"""
    two_over_root_pi = 2 / mp.sqrt(mp.pi)
    return taylor_tail(
        lambda x: mp.erf(mp.sqrt(x)) / mp.sqrt(x) - 1,
        lambda x: two_over_root_pi * (1 - x / 3) - 1,
        z,
    )


def sin_tail(z: mp.mpf) -> mp.mpf:
    """(sin(x) / x - 1) / x^2 with z = x^2"""
    return taylor_tail(
        lambda y: (mp.sin(mp.sqrt(y)) / mp.sqrt(y) - 1) / y, lambda y: -mp.mpf(1) / 6 + y / 120, z
    )


def cos_tail(z: mp.mpf) -> mp.mpf:
    """(cos(x) - 1 + x^2 / 2) / x^4 with z = x^2"""
    return taylor_tail(
        lambda y: (mp.cos(mp.sqrt(y)) - 1 + y / 2) / y**2, lambda y: mp.mpf(1) / 24 - y / 720, z
    )


def arctan_tail(z: mp.mpf) -> mp.mpf:
    """(arctan(x) / x - 1) / x^2 with z = x^2"""
    return taylor_tail(
        lambda y: (mp.atan(mp.sqrt(y)) / mp.sqrt(y) - 1) / y, lambda y: -mp.mpf(1) / 3 + y / 5, z
    )


def arcsin_tail(z: mp.mpf) -> mp.mpf:
    """(arcsin(x) / x - 1) / x^2 with z = x^2"""
    return taylor_tail(
        lambda y: (mp.asin(mp.sqrt(y)) / mp.sqrt(y) - 1) / y,
        lambda y: mp.mpf(1) / 6 + y * 3 / 40,
        z,
    )


def power_tail(z: mp.mpf) -> mp.mpf:
    """3 (atanh(s) / s - 1 - s^2 / 3) / s^4 with z = s^2"""
    return taylor_tail(
        lambda y: 3 * (mp.atanh(mp.sqrt(y)) / mp.sqrt(y) - 1 - y / 3) / y**2,
        lambda y: mp.mpf(3) / 5 + y * 3 / 7,
        z,
    )


def inverse_cbrt(m: mp.mpf) -> mp.mpf:
    return m ** (-mp.mpf(1) / 3)


LOG_RANGE = ROOT_HALF - 1, 1 / ROOT_HALF - 1
EIGHTH_TURN = mp.pi / 4 * mp.mpf("1.001")  # a quotient that is rounded may lie a little beyond
POWER_LIMIT = ((mp.sqrt(1.5) - 1) / (mp.sqrt(1.5) + 1)) ** 2 * mp.mpf("1.001")
QUARTER = mp.mpf(1) / 4 * mp.mpf("1.001")  # of x^2, which is rounded
ATANH_LIMIT = ((mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)) ** 2 * mp.mpf("1.001")

FITS = [
    # The weight is that of expm1(r), which is stricter than that of exp(r).
    Fit(
        "exp",
        exp_tail,
        lambda r: r**3 / mp.expm1(r) if r else mp.mpf(0),
        -HALF_LN2,
        HALF_LN2,
        {"float32": 3, "float64": 8},
    ),
    Fit(
        "log",
        log_tail,
        lambda f: abs(f**3 / mp.log1p(f)) if f else mp.mpf(0),
        *LOG_RANGE,
        {"float32": 8},
    ),
    Fit("log", atanh_tail, lambda z: z, mp.mpf("1e-9"), ATANH_LIMIT, {"float64": 6}),
    Fit(
        "erf",
        erf_tail,
        lambda z: 1 / (1 + erf_tail(z)),
        mp.mpf(0),
        mp.mpf(1),
        {"float32": 6, "float64": 12},
    ),
    Fit(
        "sin",
        sin_tail,
        lambda z: z / (1 + z * sin_tail(z)),
        mp.mpf(0),
        EIGHTH_TURN**2,
        {"float32": 2, "float64": 5},
    ),
    Fit(
        "cos",
        cos_tail,
        lambda z: z**2 / mp.cos(mp.sqrt(z)),
        mp.mpf(0),
        EIGHTH_TURN**2,
        {"float32": 2, "float64": 5},
    ),
    Fit(
        "arctan",
        arctan_tail,
        lambda z: z / (1 + z * arctan_tail(z)),
        mp.mpf(0),
        QUARTER,
        {"float32": 5, "float64": 11},
    ),
    Fit(
        "arcsin",
        arcsin_tail,
        lambda z: z / (1 + z * arcsin_tail(z)),
        mp.mpf(0),
        QUARTER,
        {"float32": 4, "float64": 12},
    ),
    Fit(
        "power",
        power_tail,
        lambda z: z**2 / 3,
        mp.mpf("1e-9"),
        POWER_LIMIT,
        {"float64": 5},
    ),
    # Where Newton's method begins
    Fit(
        "inverse_cbrt",
        inverse_cbrt,
        lambda m: 1 / inverse_cbrt(m),
        mp.mpf(1),
        mp.mpf(2),
        {"float32": 4, "float64": 4},
    ),
]
# In float64, for powers of float32
POWER_FITS = [
    Fit(
        "log2",
        lambda z: (2 * mp.atanh(mp.sqrt(z)) / mp.sqrt(z)) / mp.log(2),
        lambda z: mp.log(2) / 2,
        mp.mpf("1e-20"),
        ATANH_LIMIT,
        {"float64": 4},
    ),
    Fit(
        "exp2",
        lambda f: mp.mpf(2) ** f,
        lambda f: 2**-f,
        -mp.mpf(1) / 2,
        mp.mpf(1) / 2,
        {"float64": 6},
    ),
]
# pi / 2 in parts: multiples of all but the last, by integers below 2**12 and 2**20, are exact.
QUARTER_TURN_BITS = {"float32": (12, 12, 12), "float64": (33, 33)}
EIGHTH_BITS = {"float32": 20, "float64": 49}  # four times it, it is exact
# A logarithm of 1 + f, of half of the digits, times it, it is exact.
LOG_FACTOR_BITS = {"float32": 12, "float64": 26}


def literal(value: float, dtype: str) -> str:
    mantissa, exponent = value.hex().split("p")
    suffix = "f" if dtype == "float32" else ""
    return f"{mantissa.rstrip('0').rstrip('.')}p{int(exponent)}{suffix}"


def print_fit(fit: Fit, dtype: str, kind: str = "real") -> None:
    coefficients = [to_dtype(c, dtype) for c in remez(fit, fit.degree[dtype])]
    worst = float(mp.log(largest_error(fit, coefficients), 2))
    print(f"/* error 2^{worst:.1f} */")
    print_table(f"{fit.name}_poly", coefficients, dtype, kind)


def print_table(name: str, coefficients: list[float], dtype: str, kind: str = "real") -> None:
    print(f"static const {kind} dlc_{name}[] = {{")
    for c in coefficients:
        print(f"    {literal(c, dtype)},")
    print("};")


def print_split(name: str, value: mp.mpf, dtype: str, bits: int) -> None:
    high, low = split(value, dtype, bits)
    print(f"#define DLC_{name}_HIGH {literal(high, dtype)} /* {bits} bits */")
    print(f"#define DLC_{name}_LOW {literal(low, dtype)}")


def parts_of(value: mp.mpf, dtype: str) -> list[float]:
    """The value as a sum: parts of few bits, and what is left of it."""
    parts = []
    for bits in QUARTER_TURN_BITS[dtype]:
        scale = mp.mpf(2) ** (bits - 1 - mp.floor(mp.log(value, 2)))
        parts.append(float(mp.floor(value * scale) / scale))
        value -= parts[-1]
    return [*parts, to_dtype(value, dtype)]


def main() -> None:
    for dtype, bits in LN2_HIGH_BITS.items():
        print(f"/* {dtype} */")
        print_split("LN2", mp.log(2), dtype, bits)
        for fit in FITS:
            if dtype in fit.degree:
                print_fit(fit, dtype)
        print_table("quarter_turn", parts_of(mp.pi / 2, dtype), dtype)
        print(f"#define DLC_QUARTERS {literal(to_dtype(2 / mp.pi, dtype), dtype)} /* 2 / pi */")
        print_split("EIGHTH_TURN", mp.pi / 4, dtype, EIGHTH_BITS[dtype])
        print_split("LOG2_E", 1 / mp.log(2), dtype, LOG_FACTOR_BITS[dtype])
        print_split("LOG10_E", 1 / mp.log(10), dtype, LOG_FACTOR_BITS[dtype])
        if dtype == "float32":
            for fit in POWER_FITS:
                print_fit(fit, "float64", "double")
        if dtype == "float64":
            print_split("LN2_UPPER", mp.log(2), dtype, LOG_FACTOR_BITS[dtype])
            print_split("TWO_THIRDS_LOG2_E", 2 / (3 * mp.log(2)), dtype, LOG_FACTOR_BITS[dtype])
            print_split("LOG2_3_HALVES", mp.log(1.5, 2), dtype, LOG_FACTOR_BITS[dtype])
        print_split("LOG10_2", mp.log10(2), dtype, LN2_HIGH_BITS[dtype])
        numerator, denominator, worst = fit_normal_tail(dtype)
        print(f"/* error 2^{float(mp.log(worst, 2)):.1f} */")
        print_table("normal_tail_numerator", numerator, dtype)
        print_table("normal_tail_denominator", denominator, dtype)
        limit = literal(to_dtype(mp.log(NORMAL_TAIL_LIMIT), dtype), dtype)
        print(f"#define DLC_LOG_ROOT_2_BY_PI {limit}")


if __name__ == "__main__":
    main()
