"""Putting a data set into the cache, once, and reading it from there."""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from vitcnn.data.sources import torchvision
from vitcnn.data.sources.cache import Arrays, FetchError, Info, KeptInfo, cache_folder, open_arrays, read_about, store
from vitcnn.data.sources.class_folders import fingerprint, root_of
from vitcnn.data.sources.folder import prepare
from vitcnn.data.sources.registry import BUILT_IN, known_info, place
from vitcnn.data.synthetic.spec import info_of, parse
from vitcnn.errors import ConfigError


class DataSet(NamedTuple):
    """What a data set is, its memory-mapped arrays, and what a record says of it: origin, sums, duplicates."""

    info: Info
    arrays: Arrays
    facts: dict[str, Any]


def load(name: str, folder: str | Path | None = None, resolution: int | None = None) -> DataSet:
    """Fetched first if it is not there."""
    here = place(name, resolution, folder)
    if (about := read_about(here)) is None:
        about = read_about(fetch(name, folder, resolution))
    found = {key: value for key, value in about["duplicates"].items() if key != "which"}
    facts = {"origin": about["origin"], "sha256": about["sha256"], **found}
    if about.get("left_out"):
        facts["left_out"] = about["left_out"]  # images that could not be read
    return DataSet(Info.model_validate(about["info"]), open_arrays(here), facts)


def fetch(
    name: str,
    folder: str | Path | None = None,
    resolution: int | None = None,
    *,
    skip_unreadable: bool = False,
    say: Callable[[str], None] = print,
) -> Path:
    """Puts a data set into the cache, all of it or nothing, and returns its folder there. Raises FetchError.

    Of a data set that is made, what it deforms. A folder of one's own whose files have changed since is read again.
    `skip_unreadable`: leave out its broken images.
    """
    here = place(name, resolution, folder)
    if made := parse(name):
        return fetch(made.base, folder, resolution, say=say) if made.base else here
    about = read_about(here)
    mark = fingerprint(root_of(name)) if name.startswith("folder:") else None
    if about and mark == about.get("fingerprint"):
        return here
    try:
        here.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix=".fetching-", dir=here.parent)
    except OSError as error:
        raise FetchError(f"{here.parent}: {error.strerror or error}; --data-dir chooses another data cache") from None
    theirs = name.startswith("torchvision:")
    downloads = cache_folder(folder) / "downloads" / torchvision.known(name) if theirs else None
    with scratch as text, _downloading(downloads, say):
        scratch = Path(text)
        if theirs and read_about(here):  # another process was first
            return here
        if mark:
            info, arrays, left_out = prepare(name, resolution, scratch, skip_unreadable, say)
            if left_out:
                say(f"{name}: {len(left_out)} unreadable images are left out:\n  " + "\n  ".join(left_out))
            more = {"origin": "a folder", "fingerprint": mark, "left_out": len(left_out)}
        elif theirs:
            info, arrays = torchvision.prepare(name, resolution, scratch, downloads, say)
            more = {"origin": "torchvision"}
        else:
            info = BUILT_IN[name].info
            arrays, origin = _first_that_answers(name, here, scratch, say)
            more = {"origin": origin}
        store(info, arrays, here, scratch, say, **more)
    expected = name in BUILT_IN and BUILT_IN[name].sums
    if expected and (got := tuple(read_about(here)["sha256"])) != expected:
        say(f"{name}: WARNING: the pixels are not the expected ones\n  got      {got}\n  expected {expected}")
    return here


@contextlib.contextmanager
def _downloading(downloads: Path | None, say: Callable[[str], None]) -> Iterator[None]:
    """One process at a time in this folder, which goes when all went well."""
    if not downloads:
        yield
        return
    downloads.mkdir(parents=True, exist_ok=True)
    lock = FileLock(downloads.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"{downloads.name}: waiting for another process that downloads it")
        lock.acquire()
    try:
        yield
        shutil.rmtree(downloads, ignore_errors=True)
    finally:
        lock.release()


def _first_that_answers(name: str, here: Path, scratch: Path, say: Callable[[str], None]) -> tuple[Arrays, str]:
    source, tried = BUILT_IN[name], []
    for origin, fetcher in source.fetchers:
        say(f"{name}: fetching from {origin}")
        try:
            return fetcher(scratch), origin
        except Exception as error:  # whatever a host, an archive or a tool can do wrong; all of it is reported
            tried.append(f"  {origin}: {type(error).__name__}: {(str(error).strip().splitlines() or [''])[-1]}")
            say(f"{name}: {origin} did not work ({type(error).__name__}: {error})")
    raise FetchError(
        f"{name} could not be fetched. Tried:\n" + "\n".join(tried) + f"\nBy hand: {source.by_hand} ({here})"
    )


def _kept(file: Path) -> KeptInfo | None:
    """None where it is damaged, or of an earlier version."""
    try:
        return KeptInfo.model_validate_json(file.read_bytes())
    except ValueError:
        return None


def about_data(
    name: str, folder: str | Path | None = None, resolution: int | None = None, beside: Path | None = None
) -> Info:
    """What is known of a data set without fetching it. Raises ConfigError where that takes a look at its images.

    `beside`: a file with a run's `KeptInfo`, which serves where it is of this data set at this resolution.
    """
    here = place(name, resolution, folder)
    if info := known_info(name):
        return info
    there = bool(beside) and beside.exists()
    if there and (kept := _kept(beside)) and (kept.dataset, kept.resolution) == (name, resolution):
        return kept.info
    if about := read_about(here):
        info, made = Info.model_validate(about["info"]), parse(name)
        return info_of(made, info) if made else info
    if there and not kept:
        raise ConfigError(f"{beside}: not what a run of this version leaves of its data set; run the study again")
    more = f" --resolution {resolution}" if resolution else ""
    raise ConfigError(f"{name} is not in the data cache yet; `vitcnn data fetch {name}{more}` puts it there")
