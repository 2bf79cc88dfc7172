"""Does more training move the gap? The longer cells of `budget_check` against those of the study's budget."""

import math
from dataclasses import dataclass

from vitcnn.analysis.results import Results
from vitcnn.analysis.stats import mean


@dataclass(frozen=True)
class BudgetShift:
    """What more training did to the gap at one n, over the seeds that were trained for both budgets."""

    n: int
    factor: float
    seeds: int
    gap: float
    longer: float
    half_interval: float | None  # of the gap over all seeds; None below two seeds
    chance: float | None  # half the 95 % interval of the move: paired by seed; of one seed, by the spread of all

    @property
    def limited(self) -> bool | None:
        """Did the gap move by more than half its interval (its half-width), or, of several seeds, by more than chance
        moves it? None below two seeds."""
        if self.half_interval is None:
            return None
        return self.move > self.half_interval or (self.seeds > 1 and self.move > self.chance)

    @property
    def move(self) -> float:
        return abs(self.longer - self.gap)


@dataclass(frozen=True)
class BudgetUnchecked:
    sizes: tuple[int, ...]


def budget_shifts(results: Results) -> list[BudgetShift]:
    """For the smallest and the largest n, where the longer cells are finished."""
    check, out = results.study.budget_check, []
    for n in sorted({results.study.sizes[0], results.study.sizes[-1]}) if check else ():
        longer, gaps = results.gaps(n, role="budget-check"), results.gaps(n)
        both = sorted(longer.keys() & gaps.keys())
        if not both:
            continue
        spread, moves = mean(list(gaps.values())), mean([longer[s] - gaps[s] for s in both])
        half = spread.half if spread.count > 1 else None
        alone = half * math.sqrt(2 * spread.count) if half is not None else None
        out.append(
            BudgetShift(
                n=n,
                factor=check.factor,
                seeds=len(both),
                gap=sum(gaps[s] for s in both) / len(both),
                longer=sum(longer[s] for s in both) / len(both),
                half_interval=half,
                chance=moves.half if len(both) > 1 else alone,
            )
        )
    return out
