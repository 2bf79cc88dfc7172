"""Along what a study's results are compared: training images n, or images seen at a fixed n."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Axis:
    """A place on it is a whole number above 0. `n`: where it is the axis of images seen, the fixed n."""

    kind: Literal["n", "images seen"] = "n"
    n: int | None = None

    def name(self, place: int) -> str:
        """`n = 500`, or `100,096 images seen`."""
        return f"n = {place:,}" if self.kind == "n" else f"{place:,} images seen"

    def interval(self, low: str, high: str = "") -> str:
        """`n = 500 to 900`, or `500 to 900 images seen`, of ends that are formatted already."""
        ends = f"{low} to {high}" if high else low
        return f"n = {ends}" if self.kind == "n" else f"{ends} images seen"


N = Axis()
