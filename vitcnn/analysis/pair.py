"""What a claim is, and what it is about: two models at the sizes of a study."""

import math
from dataclasses import dataclass
from typing import Literal

from vitcnn.analysis.crossing import Crossing, along
from vitcnn.analysis.evidence import Evidence, NotEnough, Number, Scale
from vitcnn.analysis.random_effects import Estimate

Outcome = Literal["supported", "contradicted", "undecided", "cannot be said"]


@dataclass(frozen=True)
class Claim:
    """`effect` is counted so that above 0 is the claim's direction; `p` is that of its two-sided test, `adjusted` after
    Holm."""

    key: str
    says: str  # the claim, as a sentence
    outcome: Outcome = "cannot be said"
    effect: Estimate | None = None
    unit: str = "points"
    sizes: tuple[int, ...] = ()
    p: float = math.nan
    adjusted: float = math.nan
    why: str = ""  # for what cannot be said
    found: str = ""  # what was found, as a sentence


@dataclass(frozen=True)
class Pair:
    """What claims are about: two models, sizes in order, and a model in between, where there is one."""

    evidence: Evidence
    first: str
    second: str
    sizes: tuple[int, ...]
    between: str | None

    @property
    def ends(self) -> tuple[int, int]:
        return self.sizes[0], self.sizes[-1]

    def gap(self, n: int, scale: Scale = "accuracy") -> list[tuple[float, Number]]:
        """The terms of: by how much the first is better."""
        sign = 1.0 if scale == "accuracy" else -1.0
        return [(sign, Number(self.first, n, scale)), (-sign, Number(self.second, n, scale))]

    def estimate(self, terms: list[tuple[float, Number]], scale: float = 1.0) -> Estimate:
        return self.evidence.sample([[(w * scale, x) for w, x in terms]]).estimate([1.0])

    def crossing(self) -> Crossing:
        """The n at which the second overtakes the first. Raises NotEnough where two neighbouring sizes share no two
        seeds."""
        return along(self.evidence, self.sizes, [self.gap(n) for n in self.sizes])

    def multiplier(self, n: int) -> Crossing:
        """How many times n images the second needs for the accuracy that the first has with n. Raises NotEnough."""
        behind = [[(1.0, Number(self.first, n)), (-1.0, Number(self.second, m))] for m in self.sizes]
        return along(self.evidence, self.sizes, behind).times(1 / n)


def minus(terms: list[tuple[float, Number]]) -> list[tuple[float, Number]]:
    return [(-w, x) for w, x in terms]


def two_sizes(p: Pair) -> tuple[int, int]:
    if len(p.sizes) < 2:
        raise NotEnough("it takes two sizes")
    return p.ends


def weaker(a: Estimate, b: Estimate) -> Estimate:
    """Of two effects that a claim needs both: the one that speaks more against it. Where nothing of one varies, there
    is no test of both, but the other can speak against them."""
    for e, other in ((a, b), (b, a)):
        if not e.se:
            return other if other.se and other.value <= 0 else e
    return max((a, b), key=lambda e: (e.value <= 0, e.p if e.value > 0 else -e.p))
