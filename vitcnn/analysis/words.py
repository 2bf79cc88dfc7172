"""Numbers with their intervals, as words in a sentence."""

from vitcnn.analysis.crossing import Crossing
from vitcnn.analysis.twoway import Estimate


def interval(place: Crossing, unit: str = "n", form: str = ",.0f") -> str:
    """`95 %: n = 1,200 to 4,000`; an end that the sizes cut off is said to be open."""
    low, high = (None if v is None else format(v, form) for v in (place.low, place.high))
    name = "n = " if unit == "n" else ""
    after = "" if unit == "n" else f" {unit}"
    if low and high:
        return f"95 %: {name}{low} to {high}{after}"
    if low:
        return f"95 %: {name}{low}{after} or more, open to the right"
    if high:
        return f"95 %: {name}{high}{after} or less, open to the left"
    return "95 %: open on both sides"


def seeds(count: int) -> str:
    return f"{count} seed{'s' * (count > 1)}"


def points(e: Estimate, absolute: bool = False) -> str:
    """`2.3 points (95 %: 1.1 to 3.5)`; `absolute`: of the size, whichever sign it has."""
    sign = -1 if absolute and e.value < 0 else 1
    low, high = sorted((sign * e.low, sign * e.high))
    return f"{sign * e.value:.1f} points (95 %: {low:.1f} to {high:.1f})"


def signed(value: float, low: float, high: float) -> str:
    low, high = sorted((low, high))
    return f"{value:+.1f} (95 %: {low:+.1f} to {high:+.1f})"
