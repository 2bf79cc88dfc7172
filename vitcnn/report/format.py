"""Numbers with their intervals, as parts of a sentence."""

import math
from collections.abc import Callable

from vitcnn.analysis.axis import Axis, N
from vitcnn.analysis.crossing import Crossing
from vitcnn.analysis.random_effects import Estimate


def interval(place: Crossing, axis: Axis = N) -> str:
    """`95 %: n = 1,200 to 4,000`. An end beyond the measured places is open."""
    return _ends(place, lambda v: f"{v:,.0f}", axis.interval)


def multiples(place: Crossing) -> str:
    """`95 %: 1.2 to 4.0 times`."""
    return _ends(place, times, lambda low, high="": f"{low} to {high} times" if high else f"{low} times")


def _ends(place: Crossing, show: Callable[[float], str], name: Callable[..., str]) -> str:
    low, high = (None if v is None else show(v) for v in (place.low, place.high))
    if low and high:
        return f"95 %: {name(low, high)}"
    if low:
        return f"95 %: {name(low)} or more, upper end not measured"
    if high:
        return f"95 %: {name(high)} or less, lower end not measured"
    return "95 %: neither end measured"


def times(value: float, rounded: Callable[[float], float] = round) -> str:
    """A multiple: one decimal, below 1 two digits; of a bound `rounded` up (math.ceil) or down (math.floor)."""
    digits = 1 if value >= 1 else 1 - math.floor(math.log10(value))
    return f"{rounded(round(value * 10**digits, 6)) / 10**digits:,.{digits}f}"


def seeds(count: int) -> str:
    return counted(count, "seed")


def counted(count: int, what: str) -> str:
    """`1 cell`, `1,200 cells`."""
    return f"{count:,} {what}{'s' * (count != 1)}"


def points(e: Estimate, absolute: bool = False) -> str:
    """`2.3 points (95 %: 1.1 to 3.5)`; `absolute`: of the size, whichever sign it has."""
    sign = -1 if absolute and e.value < 0 else 1
    return f"{sign * e.value:z.1f} points ({_bounds(sign * e.low, sign * e.high, 'z.1f')})"


def signed(value: float, low: float, high: float, form: str = "+z.1f", unit: str = "") -> str:
    """`+2.3 points (95 %: +1.1 to +3.5)`."""
    return f"{value:{form}}{unit and f' {unit}'} ({_bounds(low, high, form)})"


def bounds(e: Estimate) -> str:
    """`95 %: 1.1 to 3.5`."""
    return _bounds(e.low, e.high, "z.1f")


def _bounds(a: float, b: float, form: str) -> str:
    if math.isnan(a) or math.isnan(b):
        return "no interval: no variance"
    return f"95 %: {min(a, b):{form}} to {max(a, b):{form}}"
