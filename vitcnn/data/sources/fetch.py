"""Putting a data set into the cache, once, and reading it from there."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from vitcnn.data.sources.cache import Arrays, FetchError, Info, KeptInfo, cache_folder, open_arrays, read_about, store
from vitcnn.data.sources.spec import DatasetSpec
from vitcnn.errors import ConfigError


class DataSet(NamedTuple):
    """What a data set is, its memory-mapped arrays, and what a record says of it: origin, sums, duplicates."""

    info: Info
    arrays: Arrays
    facts: dict[str, Any]


def load(spec: DatasetSpec, folder: str | Path | None = None) -> DataSet:
    """Fetched first if it is not there."""
    here = spec.place(folder)
    if (about := read_about(here)) is None:
        about = read_about(fetch(spec, folder))
    found = {key: value for key, value in about["duplicates"].items() if key != "which"}
    facts = {"origin": about["origin"], "sha256": about["sha256"], **found}
    if about.get("left_out"):
        facts["left_out"] = about["left_out"]  # images that could not be read
    return DataSet(Info.model_validate(about["info"]), open_arrays(here), facts)


def fetch(
    spec: DatasetSpec,
    folder: str | Path | None = None,
    *,
    skip_unreadable: bool = False,
    log: Callable[[str], None] = print,
) -> Path:
    """Puts a data set into the cache, all of it or nothing, and returns its folder there. Raises FetchError.

    Of one whose images are generated there is nothing to fetch. A folder of one's own whose files have changed since is
    read again. `skip_unreadable`: leave out its broken images.
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
        log(f"{spec.name}: WARNING: the pixels are not the expected ones\n  got      {got}\n  expected {sums}")
    return here


def _is_there(here: Path, mark: str | None) -> bool:
    about = read_about(here)
    return about is not None and about.get("fingerprint") == mark


def _kept(file: Path) -> KeptInfo | None:
    """None where it is damaged, or of an earlier version."""
    try:
        return KeptInfo.model_validate_json(file.read_bytes())
    except ValueError:
        return None


def about_data(spec: DatasetSpec, folder: str | Path | None = None, beside: Path | None = None) -> Info:
    """What is known of a data set without fetching it. Raises ConfigError where that takes a look at its images.

    `beside`: a file with a run's `KeptInfo`, which serves where it is of this data set at this resolution.
    """
    if spec.info:
        return spec.info
    there = bool(beside) and beside.exists()
    if there and (kept := _kept(beside)) and (kept.dataset, kept.resolution) == (spec.name, spec.resolution):
        return kept.info
    if about := read_about(spec.place(folder)):
        return Info.model_validate(about["info"])
    if there and not kept:
        raise ConfigError(f"{beside}: not what a run of this version leaves of its data set; run the study again")
    name, more = spec.name, f" --resolution {spec.resolution}" if spec.resolution else ""
    raise ConfigError(f"{name} is not in the data cache yet; `vitcnn data fetch {name}{more}` puts it there")
