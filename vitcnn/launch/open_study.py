"""A loaded study with its cells, data set and folders. Opening one writes nothing."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vitcnn.data.sources.cache import Info, KeptInfo
from vitcnn.data.sources.fetch import about_data, fetch
from vitcnn.store.paths import StudyPaths, write_atomically
from vitcnn.store.status import check_writable
from vitcnn.study.cell import Cell
from vitcnn.study.load import load_study
from vitcnn.study.matrix import cells
from vitcnn.study.schema import Study


class OpenStudy(NamedTuple):
    """`before`: the data set of each study that `pretrain` names, by file."""

    study: Study
    about: Info
    cells: list[Cell]
    paths: StudyPaths
    before: dict[str, Info]


def open_study(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    results: Path,
    runs: Path,
    data_folder: Path | None = None,
    allow_import: Sequence[str] = (),
) -> OpenStudy:
    """Reads a study. Raises ConfigError for user errors, and FetchError if the data set is known only from its images
    and these are missing."""
    study = load_study(path, overrides, allow_import)
    return _opened(study, StudyPaths(study.name, results, runs), data_folder)


def fetch_and_open(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    results: Path,
    runs: Path,
    data_folder: Path | None = None,
    allow_import: Sequence[str] = (),
) -> OpenStudy:
    """As `open_study`, but fetches a data set that is known only from its images and keeps its `Info` beside the
    records, so that these can be read without the images."""
    study = load_study(path, overrides, allow_import)
    paths = StudyPaths(study.name, results, runs)
    if not study.dataset_spec.info:
        fetch(study.dataset_spec, data_folder)
        about = about_data(study.dataset_spec, data_folder)
        shared = about.model_copy(update={"source": about.name})  # without this machine's path
        kept = KeptInfo(dataset=study.dataset, resolution=study.resolution, info=shared)
        check_writable(paths)
        write_atomically(paths.dataset, kept.model_dump_json() + "\n")
        return _opened(study, paths, data_folder, about)
    return _opened(study, paths, data_folder)


def _opened(study: Study, paths: StudyPaths, data_folder: Path | None, about: Info | None = None) -> OpenStudy:
    def known(one: Study) -> Info:
        return about_data(one.dataset_spec, data_folder, beside=paths.of(one.name).dataset)

    about = about or known(study)
    before = {file: known(other) for file, other in study.before.items()}
    return OpenStudy(study, about, cells(study, about, before), paths, before)
