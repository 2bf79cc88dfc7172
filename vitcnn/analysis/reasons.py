"""Why a claim could not be tested, with the numbers. The sentences are in `report.reasons`."""

from dataclasses import dataclass

from vitcnn.analysis.axis import Axis


@dataclass(frozen=True)
class NoSharedPlace:
    """No place on the axis has two seeds of both models."""

    first: str
    second: str
    axis: Axis


@dataclass(frozen=True)
class FewPlaces:
    """One place only, where the claim compares two."""

    axis: Axis


@dataclass(frozen=True)
class FewSeeds:
    """Fewer than two seeds have every number. `finished`: (model, place, seeds)."""

    common: int
    finished: tuple[tuple[str, int, int], ...]
    axis: Axis


@dataclass(frozen=True)
class FewTestImages:
    """One test image."""


@dataclass(frozen=True)
class UnequalTestSets:
    """Records with test sets of several sizes."""

    images: tuple[int, ...]


@dataclass(frozen=True)
class FewErrors:
    """Too few wrong test images for the logarithm of an error; `wrong`: mean over seeds."""

    model: str
    place: int
    wrong: float
    needed: int
    axis: Axis


@dataclass(frozen=True)
class SeedsDisagree:
    """Seeds that neighbouring places share have another sign than all seeds of one place."""


@dataclass(frozen=True)
class NoWindowedModel:
    """The study has no Swin-style model beside the pair."""


@dataclass(frozen=True)
class NoVariance:
    """Neither seeds nor test images vary."""


Reason = (
    NoSharedPlace
    | FewPlaces
    | FewSeeds
    | FewTestImages
    | UnequalTestSets
    | FewErrors
    | SeedsDisagree
    | NoWindowedModel
    | NoVariance
)


class NotEnough(Exception):
    """A number cannot be had."""

    def __init__(self, reason: Reason):
        super().__init__(reason)
        self.reason = reason
