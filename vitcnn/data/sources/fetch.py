"""Fetching a data set into the cache, and reading it from there."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vitcnn.data.sources.cache import (
    Arrays,
    FetchError,
    Info,
    KeptInfo,
    cache_folder,
    check,
    damaged,
    open_arrays,
    read_about,
    store,
    sums_of,
)
from vitcnn.data.sources.spec import DatasetSpec
from vitcnn.errors import ConfigError


class DataSet(NamedTuple):
    """A data set's `Info`, its memory-mapped arrays, and the facts for records: origin, checksums, duplicates."""

    info: Info
    arrays: Arrays
    facts: dict[str, Any]


def load(spec: DatasetSpec, folder: str | Path | None = None) -> DataSet:
    """Loads a data set, fetching it first if necessary. Raises FetchError if it does not have the shape it should."""
    here = spec.place(folder)
    if (about := read_about(here)) is None:
        about = read_about(fetch(spec, folder))
    found = {key: value for key, value in about["duplicates"].items() if key != "which"}
    facts = {"origin": about["origin"], "sha256": about["sha256"], **found}
    if about.get("left_out"):
        facts["left_out"] = about["left_out"]  # images that could not be read
    info, arrays = Info.model_validate(about["info"]), open_arrays(here)
    try:
        check(info, arrays)
    except FetchError as error:
        raise damaged(here, error) from None
    return DataSet(info, arrays, facts)


def verify(spec: DatasetSpec, folder: str | Path | None = None) -> None:
    """Reads all of a data set in the cache. Raises FetchError if it differs from what was stored."""
    if spec.generated:
        return
    here, about = spec.place(folder), read_about(spec.place(folder))
    found = sums_of(open_arrays(here))
    if wrong := [key for key, sums in found.items() if about.get(key, sums) != sums]:
        raise damaged(here, f"{'pixels' if 'sha256' in wrong else 'labels'} differ from their checksum")


def train_labels(spec: DatasetSpec, folder: str | Path | None = None) -> np.ndarray | None:
    """Labels (N,) of the training images; None if they are not in the cache."""
    here = spec.place(folder)
    return None if spec.generated or read_about(here) is None else open_arrays(here).train_labels


def fetch(
    spec: DatasetSpec,
    folder: str | Path | None = None,
    *,
    skip_unreadable: bool = False,
    log: Callable[[str], None] = print,
) -> Path:
    """Puts a data set into the cache atomically and returns its folder there. Raises FetchError.

    Synthetic data sets need no fetching. A user's folder whose files have changed is read again.
    `skip_unreadable`: leave out its broken images.
    """
    here, mark = spec.place(folder), spec.fingerprint()
    if spec.generated or _is_there(here, mark):
        return here
    try:
        here.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix=".fetching-", dir=here.parent)
    except OSError as error:
        raise FetchError(f"{here.parent}: {error.strerror or error}; --data-dir chooses another data cache") from None
    cache = cache_folder(folder)
    with scratch as text, spec.downloading(cache, log):
        if _is_there(here, mark):  # another process was first
            return here
        info, arrays, more, sums = spec.prepare(cache, Path(text), log, skip_unreadable)
        store(info, arrays, here, Path(text), log, **({"fingerprint": mark} if mark else {}), **more)
    if sums and (got := tuple(read_about(here)["sha256"])) != sums:
        log(f"{spec.name}: WARNING: the pixels differ from the expected ones\n  got      {got}\n  expected {sums}")
    return here


def _is_there(here: Path, mark: str | None) -> bool:
    about = read_about(here)
    return about is not None and about.get("fingerprint") == mark


def _kept(file: Path) -> KeptInfo | None:
    """None if it is damaged or of an earlier version."""
    try:
        return KeptInfo.model_validate_json(file.read_bytes())
    except ValueError:
        return None


def about_data(spec: DatasetSpec, folder: str | Path | None = None, beside: Path | None = None) -> Info:
    """The `Info` of a data set without fetching it. Raises ConfigError if its images would be needed.

    `beside`: a file with a run's `KeptInfo`, used if it is of this data set at this resolution.
    """
    if spec.info:
        return spec.info
    there = bool(beside) and beside.exists()
    if there and (kept := _kept(beside)) and (kept.dataset, kept.resolution) == (spec.name, spec.resolution):
        return kept.info
    if about := read_about(spec.place(folder)):
        return Info.model_validate(about["info"])
    if there and not kept:
        raise ConfigError(f"{beside}: damaged, or written by another version; run the study again")
    name, more = spec.name, f" --resolution {spec.resolution}" if spec.resolution else ""
    raise ConfigError(f"{name} is not in the data cache; run `vitcnn data fetch {name}{more}`")
