"""Per-seed numbers and per-image bits of a study, as the samples that claims are made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vitcnn.analysis.random_effects import Sample
from vitcnn.analysis.reasons import FewErrors, FewSeeds, FewTestImages, NotEnough, UnequalTestSets
from vitcnn.analysis.results import Results, overfitting

FEWEST_WRONG = 10  # images, mean over seeds: below it half an image counted as wrong decides the logarithm of an error
Scale = Literal["accuracy", "log error", "overfitting"]


@dataclass(frozen=True)
class Number:
    """One number of a seed: test accuracy, log of the test error, or train minus test accuracy, of a model at a place
    on the results' axis."""

    model: str
    place: int
    scale: Scale = "accuracy"


class Evidence:
    """Reads each record's bits once."""

    def __init__(self, results: Results):
        self.results = results
        self._bits: dict[str, np.ndarray] = {}

    def seeds(self, model: str, place: int) -> set[int]:
        return set(self.results.at(model, place))

    def sample(self, combinations: Sequence[Sequence[tuple[float, Number]]]) -> Sample:
        """One number a combination Σ weight · number, paired by seed over all of them. Raises NotEnough."""
        wanted = [number for combination in combinations for _, number in combination]
        common = set.intersection(*(self.seeds(number.model, number.place) for number in wanted))
        if len(common) < 2:
            asked = dict.fromkeys((number.model, number.place) for number in wanted)
            finished = tuple((model, place, len(self.seeds(model, place))) for model, place in asked)
            raise NotEnough(FewSeeds(len(common), finished, self.results.axis))
        seeds = sorted(common)
        values = np.array([[sum(w * self._value(x, s) for w, x in c) for c in combinations] for s in seeds])
        sizes = {len(self._wrong(x, s)) for x in wanted for s in seeds}
        if sizes == {1}:
            raise NotEnough(FewTestImages())
        if len(sizes) > 1:
            raise NotEnough(UnequalTestSets(tuple(sorted(sizes))))
        for x in (number for number in wanted if number.scale == "log error"):
            wrong = float(np.mean([self._wrong(x, s).sum() for s in seeds]))
            if wrong < FEWEST_WRONG:
                raise NotEnough(FewErrors(x.model, x.place, wrong, FEWEST_WRONG, self.results.axis))
        influence = np.zeros((*values.shape, *sizes), np.float32)
        for row, s in zip(influence, seeds, strict=True):
            for total, combination in zip(row, combinations, strict=True):
                for w, x in combination:
                    total += np.float32(w * self._slope(x, s)) * self._wrong(x, s)
        return Sample.of(values, influence)

    def _wrong(self, x: Number, seed: int) -> np.ndarray:
        record = self.results.at(x.model, x.place)[seed]
        if record.id not in self._bits:
            self._bits[record.id] = ~record.test.correct()
        return self._bits[record.id]

    def _value(self, x: Number, seed: int) -> float:
        record = self.results.at(x.model, x.place)[seed]
        if x.scale == "overfitting":
            return overfitting(record)
        if x.scale == "log error":
            return float(np.log(smoothed_error(1 - record.test.accuracy, record.test.images)))
        return record.test.accuracy

    def _slope(self, x: Number, seed: int) -> float:
        """The derivative of the value by a wrong image's weight, times the number of images."""
        if x.scale == "log error":
            wrong = self._wrong(x, seed)
            return 1 / smoothed_error(wrong.mean(), len(wrong))
        return 1.0 if x.scale == "overfitting" else -1.0


def smoothed_error(error: float, images: int) -> float:
    """Half an image is counted as wrong, so that a perfect test has a logarithm."""
    return (error * images + 0.5) / (images + 1)
