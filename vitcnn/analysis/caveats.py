"""What has to be said before a study's numbers: sentences on its data, its floor and its budget."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from vitcnn.analysis.crossing import TIE
from vitcnn.analysis.format import seeds, signed
from vitcnn.analysis.results import Results
from vitcnn.analysis.stats import Mean, mean

HARDLY = 0.01  # of the way from chance to no error: nothing to speak of is learnt


def whole_pool(results: Results) -> str:
    """A sentence where the largest n is all there is to train on; else empty."""
    study = results.study
    if not results.about or len(study.seeds) < 2 or study.sizes[-1] < results.about.train - results.cells[0].validation:
        return ""
    return (
        f"At n = {study.sizes[-1]:,} every seed trains on the same images, all there are: the spread there is that of "
        "initialisation and order alone."
    )


def leak(results: Results) -> str:
    """What the leak check found, as a sentence; empty where no record knows."""
    known = [r.data for r in results.records.values() if "test_in_train" in r.data]
    if not known:
        return ""
    worst = max(known, key=lambda data: data["test_in_train"])
    if "looked_at" in worst:
        trained, tested = (max(data["looked_at"][k] for data in known) for k in (0, 1))
        test, train = f"of the first {tested:,} test images", f"of the first {trained:,} training images of a cell"
        if not worst["test_in_train"]:
            return f"On a sample: none {test} is an exact copy of one {train}."
        return f"**On a sample: {worst['test_in_train']:,} {test} are exact copies {train}.**"
    if not worst["test_in_train"]:
        return "No test image is an exact copy of a training image."
    images = next(iter(results.records.values())).test.images
    return (
        f"**{worst['test_in_train']:,} of the {images:,} test images are exact copies of images in the training pool** "
        f"({worst['other_label']:,} of them under another class): test accuracy is not that on new images."
    )


def _against_baseline(results: Results) -> list[tuple[str, int, Mean, Mean]]:
    """(model, its largest n that the baseline has too, its mean, the baseline's), where there is such an n."""
    baseline, out = results.baseline, []
    for model in results.models if baseline else ():
        finished = [n for n in results.study.sizes if results.at(model, n) and results.at(baseline, n)]
        if model != baseline and finished:
            n = finished[-1]
            out.append((model, n, results.mean(model, n), results.mean(baseline, n)))
    return out


def above_baseline(results: Results) -> str:
    """A sentence where the mean of every model is above that of the linear baseline, with those of which that may be
    chance; else empty."""
    held = _against_baseline(results)
    beyond = any(results.at(model, m) for model, n, _, _ in held for m in results.study.sizes if m > n)
    if not len(held) == len(results.models) - 1 > 0 or beyond or below_baseline(results):
        return ""
    over = {model: results.difference(model, results.baseline, n) for model, n, _, _ in held}
    vague = [
        f"{model} by {signed(*(100 * v for v in (m.mean, m.low, m.high)))} points"
        for model, m in over.items()
        if m and m.low <= 0
    ]
    chance = f", though this may be chance: {', '.join(vague)}" if vague else ""
    fewer = " (which was fitted on fewer images, see below)" if few_for_the_baseline(results) else ""
    return f"Every model is above the linear baseline at its largest finished n{fewer}{chance}."


def few_for_the_baseline(results: Results) -> str:
    """A sentence where the linear baseline was fitted on fewer images than n; else empty."""
    fitted = [r.found["images"] for r in results.records.values() if r.found.get("images", r.cell.n) < r.cell.n]
    if not fitted:
        return ""
    return f"{results.baseline} is fitted on the first {max(fitted):,} of its images at most, whatever n is."


def below_baseline(results: Results, among: Collection[str] | None = None) -> list[str]:
    """A sentence for each model (of `among`) that loses to the linear baseline at its largest finished n."""
    out = []
    for model, n, own, line in _against_baseline(results):
        if own.mean <= line.mean + TIE and (among is None or model in among):
            out.append(
                f"{model} is not above the linear baseline at n = {n:,}: {own.mean:.1%} against {line.mean:.1%} "
                f"({own.count} and {line.count} seeds); nothing can be concluded about it."
            )
    return out


def below_baseline_on_little(results: Results, among: Sequence[str], sizes: Sequence[int]) -> list[str]:
    """A sentence where some of `among` lose to the linear baseline at the smallest of `sizes`, the largest apart."""
    n = sizes[0] if len(sizes) > 1 else None
    line = results.mean(results.baseline, n) if results.baseline else None
    if not (low := line and _up_to(results, [name for name in among if name != results.baseline], n, line.mean)):
        return []
    return [
        f"At n = {n:,} {low} not above the linear baseline ({line.mean:.1%}): claims about the least data say little "
        "about what can be reached there."
    ]


def hardly_learnt(results: Results, among: Sequence[str], sizes: Sequence[int]) -> list[str]:
    """A sentence for each of `sizes` at which some of `among` have gone less than `HARDLY` of the way from chance (one
    in so many classes) to no error."""
    if results.about is None:
        return []
    chance = 1 / results.about.classes
    low = {n: _up_to(results, among, n, chance + HARDLY * (1 - chance)) for n in sizes}
    return [
        f"At n = {n:,} {who} hardly above chance ({chance:.1%}): the difference there says little about what so much "
        "data can do."
        for n, who in low.items()
        if who
    ]


def _up_to(results: Results, among: Sequence[str], n: int, bar: float) -> str:
    """Those of `among` whose mean accuracy at n is not above `bar`, as a sentence begins: who, what each has, is or
    are; empty for nobody."""
    reached = {name: m.mean for name in among if (m := results.mean(name, n))}
    low = [f"{name} ({v:.1%})" for name, v in reached.items() if v <= bar + TIE]
    return f"{' and '.join(low)} {'are' if len(low) > 1 else 'is'}" if low else ""


@dataclass(frozen=True)
class BudgetShift:
    """What more training did to the gap at one n, over the seeds that were trained for both budgets."""

    n: int
    factor: float
    seeds: int
    gap: float
    longer: float
    half_interval: float | None  # of the gap over all seeds; None below two seeds
    chance: float | None  # the 95 % interval's half of the move: paired by seed, of one seed by the spread of all

    @property
    def limited(self) -> bool | None:
        """Did the gap move by more than half its interval (its half-width), or, of several seeds, by more than chance
        moves it? None where that cannot be said."""
        if self.half_interval is None:
            return None
        return self.move > self.half_interval or (self.seeds > 1 and self.move > self.chance)

    @property
    def move(self) -> float:
        return abs(self.longer - self.gap)

    def told(self, sign: int = 1) -> str:
        """What came of it, as the rest of a sentence; `sign` -1: of the pair the other way round."""
        before, after = (f"{100 * sign * gap:+.1f}" for gap in (self.gap, self.longer))
        return (
            f"with {self.factor:g}× the training the gap goes from {before} to {after} points ({seeds(self.seeds)}), "
            f"{self.judged}"
        )

    @property
    def judged(self) -> str:
        """The end of a sentence on it."""
        if self.limited is None:
            return "no interval to hold it against (one seed)"
        by = f"{100 * self.chance:.1f} points"
        if not self.limited:
            return "within half its interval"
        if self.move <= self.chance:
            return f"more than half its interval, though no more than chance moves it from seed to seed ({by})"
        if self.move <= self.half_interval:
            return f"within half its interval, but more than chance moves it, paired by seed ({by})"
        return "more than half its interval"


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
