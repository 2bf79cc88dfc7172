"""Commands that read finished cells: select, report, verdict, export."""

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from vitcnn.cli.common import RESULTS, RUNS, Overrides, Results, Runs, StudyFile, load


def select(study: StudyFile, overrides: Overrides = None, results: Results = RESULTS, runs: Runs = RUNS) -> None:
    """Picks each model's recipe (learning rate …) by validation accuracy, from a finished study with a `grid`; writes
    `results/<study>/recipes.yaml`."""
    from vitcnn.analysis.select import choose, recipes_yaml
    from vitcnn.errors import ConfigError
    from vitcnn.store.paths import write_atomically
    from vitcnn.store.records import read_records
    from vitcnn.store.status import failures

    loaded, _, all_cells, paths, _ = load(study, overrides, results, runs)
    records, wrong = read_records(paths.records)
    if wrong:
        raise ConfigError("\n".join(wrong))
    validation = {record.id: record.validation for record in records}
    text = recipes_yaml(choose(loaded, all_cells, validation, failures(all_cells, paths)))
    path = paths.report / "recipes.yaml"
    write_atomically(path, text)
    typer.echo(f"{text}\nwritten to {path}")


def report(
    study: StudyFile,
    overrides: Overrides = None,
    html: Annotated[
        bool, typer.Option("--html", help="Also report.html: the report as one page with charts, to open or to send.")
    ] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="With --html: write again whenever a cell finishes, until none is left; the open page reloads.",
        ),
    ] = False,
    wandb: Annotated[
        str,
        typer.Option(help="Log table, figures and verdict to W&B as a run of the study: auto, online, offline or off."),
    ] = "off",
    results: Results = RESULTS,
    runs: Runs = RUNS,
) -> None:
    """Writes `results/<study>/report.md` and its figures from the records."""
    from vitcnn.errors import ConfigError
    from vitcnn.launch.watch import changes
    from vitcnn.report.page.page import RELOAD, Source, check_extra, write_page
    from vitcnn.report.report import Report, read_report
    from vitcnn.system.wandb import MODES

    if html:
        check_extra()
    elif watch:
        raise ConfigError("--watch: needs --html")
    if wandb not in MODES:
        raise ConfigError(f"--wandb {wandb}: not valid; use one of {', '.join(MODES)}")
    loaded, about, all_cells, paths, _ = load(study, overrides, results, runs)

    def write(reload: int | None = None) -> Report:
        found = read_report(loaded, all_cells, paths, about)
        typer.echo(f"written to {found.write()}")
        if html:
            typer.echo(f"written to {write_page(found, Source(study, overrides or ()), reload)}")
        return found

    if watch:
        with contextlib.suppress(KeyboardInterrupt):
            for _ in changes(all_cells, paths):
                write(RELOAD)
    last = write()
    if wandb != "off":
        from vitcnn.report.wandb import log_study

        typer.echo(f"W&B: {log_study(last.results, paths, wandb) or 'disabled, nothing was logged'}")


def verdict(
    study: StudyFile,
    overrides: Overrides = None,
    pair: Annotated[
        tuple[str, str] | None,
        typer.Option(
            help="Two models, as `--pair cnn vit`: the one claimed to win on little data, then the other; default: the "
            "study's pair.",
            metavar="MODEL MODEL",
        ),
    ] = None,
    results: Results = RESULTS,
    runs: Runs = RUNS,
) -> None:
    """Reports for each claim what the records support, with what confidence, and what is missing."""
    from vitcnn.analysis.results import Results as StudyResults
    from vitcnn.analysis.verdict import verdict as judge
    from vitcnn.report.verdict import verdict_text
    from vitcnn.store.records import read_records

    loaded, about, all_cells, paths, _ = load(study, overrides, results, runs)
    records, wrong = read_records(paths.records)
    finished = StudyResults.of(loaded, all_cells, records, about).first_setting
    typer.echo(verdict_text(finished, judge(finished, pair)))
    for line in wrong:
        typer.echo(f"not a valid record: {line}", err=True)


def export(
    study: StudyFile,
    csv: Annotated[Path, typer.Option("--csv", help="Output file; - for standard output.")],
    overrides: Overrides = None,
    results: Results = RESULTS,
    runs: Runs = RUNS,
) -> None:
    """Writes a study's finished cells as CSV, one row per cell."""
    from vitcnn.analysis.results import Results as StudyResults
    from vitcnn.analysis.tidy import tidy
    from vitcnn.errors import ConfigError
    from vitcnn.store.records import read_records

    loaded, _, all_cells, paths, _ = load(study, overrides, results, runs)
    records, wrong = read_records(paths.records)
    found = list(StudyResults.of(loaded, all_cells, records).records.values())
    if not found:
        raise ConfigError("\n".join([f"{paths.study}: no finished cells to export", *wrong]))
    try:
        with contextlib.nullcontext(sys.stdout) if str(csv) == "-" else csv.open("w", encoding="utf-8") as file:
            tidy(found).to_csv(file, index=False, lineterminator="\n")
    except OSError as error:
        raise ConfigError(f"--csv {csv}: {error.strerror}") from None
    for line in [f"{len(found)} of {len(all_cells)} cells", *wrong]:
        typer.echo(line, err=True)
