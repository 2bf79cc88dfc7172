"""What a claim is, and what it is about: two models at the places of an axis."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from vitcnn.analysis.axis import Axis, N
from vitcnn.analysis.crossing import Crossing, along
from vitcnn.analysis.evidence import Evidence, Number, Scale
from vitcnn.analysis.random_effects import Estimate
from vitcnn.analysis.reasons import FewPlaces, NotEnough, Reason

Outcome = Literal["supported", "contradicted", "undecided", "not tested"]


@dataclass(frozen=True)
class Claim:
    """`effect` is counted so that above 0 is the claim's direction; `p` is that of its two-sided test, `adjusted` after
    Holm. `found`: what else was measured, a dataclass of the claim's own. `places`: those that the effect is about."""

    key: str
    first: str
    second: str
    axis: Axis = N
    outcome: Outcome = "not tested"
    effect: Estimate | None = None
    unit: Literal["points", "log error", "log error per doubling"] = "points"
    places: tuple[int, ...] = ()
    p: float = math.nan
    adjusted: float = math.nan
    why: Reason | None = None  # for what is not tested
    found: Any = None


@dataclass(frozen=True)
class Pair:
    """Two models, places on the axis of the evidence in order, and a Swin-style model, where there is one."""

    evidence: Evidence
    first: str
    second: str
    places: tuple[int, ...]
    between: str | None = None

    @property
    def ends(self) -> tuple[int, int]:
        """The smallest and the largest place. Raises NotEnough where that is one place."""
        if len(self.places) < 2:
            raise NotEnough(FewPlaces(self.axis))
        return self.places[0], self.places[-1]

    @property
    def axis(self) -> Axis:
        return self.evidence.results.axis

    def claim(self, key: str, **what: Any) -> Claim:
        return Claim(key, self.first, self.second, self.axis, **what)

    def gap(self, place: int, scale: Scale = "accuracy") -> list[tuple[float, Number]]:
        """The terms of: by how much the first is better."""
        sign = 1.0 if scale == "accuracy" else -1.0
        return [(sign, Number(self.first, place, scale)), (-sign, Number(self.second, place, scale))]

    def estimate(self, terms: list[tuple[float, Number]], scale: float = 1.0) -> Estimate:
        return self.evidence.sample([[(w * scale, x) for w, x in terms]]).estimate([1.0])

    def crossing(self) -> Crossing:
        """The place at which the second overtakes the first. Raises NotEnough where two neighbouring places share no
        two seeds."""
        return along(self.evidence, self.places, [self.gap(place) for place in self.places])

    def multiplier(self, n: int) -> Crossing:
        """How many times n images the second needs for the accuracy that the first has with n. Raises NotEnough."""
        behind = [[(1.0, Number(self.first, n)), (-1.0, Number(self.second, m))] for m in self.places]
        return along(self.evidence, self.places, behind).times(1 / n)


def minus(terms: list[tuple[float, Number]]) -> list[tuple[float, Number]]:
    return [(-w, x) for w, x in terms]


def weaker(a: Estimate, b: Estimate) -> Estimate:
    """Of two effects that a claim needs both: the one with more evidence against it. Where nothing of one varies, it
    has no test; the other can still contradict the claim."""
    for e, other in ((a, b), (b, a)):
        if not e.se:
            return other if other.se and other.value <= 0 else e
    return max((a, b), key=lambda e: (e.value <= 0, e.p if e.value > 0 else -e.p))
