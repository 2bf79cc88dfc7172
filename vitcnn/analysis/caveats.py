"""What weakens a study's numbers: its data, its linear baseline. The sentences are in `report.caveats`."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from vitcnn.analysis.crossing import TIE
from vitcnn.analysis.results import Results
from vitcnn.analysis.stats import Mean

NEAR_CHANCE = 0.01  # of the way from chance to no error


@dataclass(frozen=True)
class MissingCells:
    missing: int
    cells: int


@dataclass(frozen=True)
class LeftOut:
    """Places without two finished seeds of both models."""

    places: tuple[str, ...]


@dataclass(frozen=True)
class UnequalSeeds:
    """Seeds that both have finished, by place."""

    seeds: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class BelowBaseline:
    """At the model's largest finished n."""

    model: str
    n: int
    own: Mean
    baseline: Mean


@dataclass(frozen=True)
class BelowBaselineAtSmall:
    """At the smallest n; `models`: (name, mean accuracy)."""

    n: int
    models: tuple[tuple[str, float], ...]
    baseline: float


@dataclass(frozen=True)
class NearChance:
    n: int
    models: tuple[tuple[str, float], ...]
    chance: float


@dataclass(frozen=True)
class AboveBaseline:
    """Every model is; `unsure`: those whose 95 % interval (over seeds) holds 0; `fitted`: of the baseline, at most."""

    unsure: tuple[tuple[str, Mean], ...]
    fitted: int | None


@dataclass(frozen=True)
class BaselineFitted:
    """The baseline was fitted on fewer images than n."""

    baseline: str
    images: int


@dataclass(frozen=True)
class NoBaseline:
    pass


@dataclass(frozen=True)
class NoSearch:
    pass


@dataclass(frozen=True)
class Synthetic:
    """The data set's own words on how its images were generated."""

    text: str


@dataclass(frozen=True)
class WholePool:
    """At n every seed trains on the same images."""

    n: int


@dataclass(frozen=True)
class OtherRecords:
    count: int


@dataclass(frozen=True)
class Unpermuted:
    """Models that were not trained under the permutation."""

    models: tuple[str, ...]


@dataclass(frozen=True)
class CopiedTestImages:
    """Exact copies of training images in the test set, `other_label` of them under another class. `sample`: (training
    images, test images) looked at, where that was not all."""

    copies: int
    other_label: int
    images: int
    sample: tuple[int, int] | None


def whole_pool(results: Results) -> WholePool | None:
    """Where the largest n is all there is to train on."""
    study = results.study
    if not results.about or len(study.seeds) < 2 or study.sizes[-1] < results.about.train - results.cells[0].validation:
        return None
    return WholePool(study.sizes[-1])


def copied_test_images(results: Results) -> CopiedTestImages | None:
    """None where no record knows."""
    known = [r.data for r in results.records.values() if "test_in_train" in r.data]
    if not known:
        return None
    worst = max(known, key=lambda data: data["test_in_train"])
    sampled = tuple(max(data["looked_at"][k] for data in known) for k in (0, 1)) if "looked_at" in worst else None
    return CopiedTestImages(
        copies=worst["test_in_train"],
        other_label=worst.get("other_label", 0),
        images=next(iter(results.records.values())).test.images,
        sample=sampled,
    )


def unpermuted(results: Results) -> Unpermuted | None:
    """Where a setting permutes and some models are not trained under it; the linear baseline is not affected by it."""
    names = tuple(e.name for e in results.study.models if not e.permuted and not e.is_linear)
    return Unpermuted(names) if names and results.setting else None


def _against_baseline(results: Results) -> list[tuple[str, int, Mean, Mean]]:
    """(model, its largest n that the baseline has too, its mean, the baseline's), where there is such an n."""
    baseline, out = results.baseline, []
    for model in results.models if baseline else ():
        finished = [n for n in results.study.sizes if results.at(model, n) and results.at(baseline, n)]
        if model != baseline and finished:
            n = finished[-1]
            out.append((model, n, results.mean(model, n), results.mean(baseline, n)))
    return out


def above_baseline(results: Results) -> AboveBaseline | None:
    """Where the mean of every model is above that of the linear baseline."""
    held = _against_baseline(results)
    beyond = any(results.at(model, m) for model, n, _, _ in held for m in results.study.sizes if m > n)
    if not len(held) == len(results.models) - 1 > 0 or beyond or below_baseline(results):
        return None
    over = {model: results.difference(model, results.baseline, n) for model, n, _, _ in held}
    fewer = baseline_fitted(results)
    return AboveBaseline(tuple((e, m) for e, m in over.items() if m and m.low <= 0), fewer.images if fewer else None)


def baseline_fitted(results: Results) -> BaselineFitted | None:
    """Where the linear baseline was fitted on fewer images than n."""
    fitted = [r.found["images"] for r in results.records.values() if r.found.get("images", r.cell.n) < r.cell.n]
    return BaselineFitted(results.baseline, max(fitted)) if fitted else None


def below_baseline(results: Results, among: Collection[str] | None = None) -> list[BelowBaseline]:
    """Each model (of `among`) that is not above the linear baseline at its largest finished n."""
    return [
        BelowBaseline(model, n, own, line)
        for model, n, own, line in _against_baseline(results)
        if own.mean <= line.mean + TIE and (among is None or model in among)
    ]


def below_baseline_at_small(
    results: Results, among: Sequence[str], sizes: Sequence[int]
) -> BelowBaselineAtSmall | None:
    """Those of `among` that are not above the linear baseline at the smallest of several `sizes`."""
    n = sizes[0] if len(sizes) > 1 else None
    line = results.mean(results.baseline, n) if results.baseline else None
    low = _up_to(results, [name for name in among if name != results.baseline], n, line.mean) if line else ()
    return BelowBaselineAtSmall(n, low, line.mean) if low else None


def near_chance(results: Results, among: Sequence[str], sizes: Sequence[int]) -> list[NearChance]:
    """Each of `sizes` at which some of `among` have gone less than `NEAR_CHANCE` of the way from chance (one in so many
    classes) to no error."""
    if results.about is None:
        return []
    chance = 1 / results.about.classes
    low = {n: _up_to(results, among, n, chance + NEAR_CHANCE * (1 - chance)) for n in sizes}
    return [NearChance(n, models, chance) for n, models in low.items() if models]


def _up_to(results: Results, among: Sequence[str], n: int, bar: float) -> tuple[tuple[str, float], ...]:
    """Those of `among` whose mean accuracy at n is not above `bar`."""
    reached = {name: m.mean for name in among if (m := results.mean(name, n))}
    return tuple((name, value) for name, value in reached.items() if value <= bar + TIE)
