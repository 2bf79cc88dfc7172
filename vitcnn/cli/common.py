"""What the commands on a study share: their arguments, and reading the study with its data and places."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

if TYPE_CHECKING:
    from vitcnn.data.sources.cache import Info
    from vitcnn.store.paths import Places
    from vitcnn.study.cell import Cell
    from vitcnn.study.schema import Study

StudyFile = Annotated[Path, typer.Argument(help="The study's YAML file.", metavar="STUDY.yaml")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Changes to the study: seeds=1 'sizes=[50,100]' recipe.lr=1e-3 …", metavar="[KEY=VALUE]…"),
]
Results = Annotated[Path, typer.Option("--results", help="Where records and reports are kept.")]
Runs = Annotated[Path, typer.Option("--runs", help="Where checkpoints and W&B files are kept.")]
RESULTS, RUNS = Path("results"), Path("runs")


class Loaded(NamedTuple):
    """A study read from its file, what is known of its data, its cells, and where its files are."""

    study: "Study"
    about: "Info"
    cells: "list[Cell]"
    places: "Places"
    before: "dict[str, Info]"  # of the data of the studies that `pretrain` names, by file


def load(
    path: Path, overrides: list[str] | None, results: Path, runs: Path, data_dir: Path | None = None, get: bool = False
) -> Loaded:
    """`get`: look at the images of a data set that is known only from these (and fetch it, for that)."""
    from vitcnn.data.sources.cache import KeptInfo
    from vitcnn.data.sources.fetch import about_data, fetch
    from vitcnn.data.sources.registry import known_info
    from vitcnn.store.paths import Places, write_atomically
    from vitcnn.store.status import check_writable
    from vitcnn.study.load import load_study
    from vitcnn.study.matrix import cells

    study = load_study(path, overrides or ())
    places = Places(study.name, results, runs)

    def known(one: "Study") -> "Info":
        return about_data(one.dataset, data_dir, one.resolution, beside=places.of(one.name).dataset)

    if get and not known_info(study.dataset):
        fetch(study.dataset, data_dir, study.resolution)
        about = about_data(study.dataset, data_dir, study.resolution)
        shared = about.model_copy(update={"source": about.name})  # not where it lies on this machine
        kept = KeptInfo(dataset=study.dataset, resolution=study.resolution, info=shared)
        check_writable(places)
        write_atomically(places.dataset, kept.model_dump_json() + "\n")  # reports need no images
    else:
        about = known(study)
    before = {file: known(other) for file, other in study.before.items()}
    return Loaded(study, about, cells(study, about, before), places, before)
