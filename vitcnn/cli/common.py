"""Arguments shared by the commands on a study, and loading a study with its data and paths."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vitcnn.launch.open_study import OpenStudy

StudyFile = Annotated[Path, typer.Argument(help="The study's YAML file.", metavar="STUDY.yaml")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        help="Changes to the study, the same for run, status and report: seeds=1 'sizes=[50,100]' recipe.lr=1e-3 …",
        metavar="[KEY=VALUE]…",
    ),
]
Results = Annotated[Path, typer.Option("--results", help="Folder of records and reports.")]
Runs = Annotated[Path, typer.Option("--runs", help="Folder of checkpoints and W&B files.")]
AllowImport = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-import",
        metavar="MODULE",
        help="A module whose functions `import:` may run although it lies neither beside the study nor in the current "
        "folder; may be given several times.",
    ),
]
RESULTS, RUNS = Path("results"), Path("runs")


def load(
    path: Path,
    overrides: list[str] | None,
    results: Path,
    runs: Path,
    data_dir: Path | None = None,
    allow_import: list[str] | None = None,
) -> "OpenStudy":
    """Opens a study without fetching or writing anything."""
    from vitcnn.launch.open_study import open_study

    places = {"results": results, "runs": runs, "data_folder": data_dir}
    return open_study(path, overrides or (), **places, allow_import=allow_import or ())
