"""`vitcnn cost`: measures what a study's models cost on this machine."""

from typing import Annotated

import typer

from vitcnn.cli.common import RESULTS, RUNS, AllowImport, Overrides, Results, Runs, StudyFile, load


def cost(
    study: StudyFile,
    overrides: Overrides = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …")] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    repeats: Annotated[int, typer.Option(min=1, help="Measurements of each model; the median is reported.")] = 5,
    allow_import: AllowImport = None,
    results: Results = RESULTS,
    runs: Runs = RUNS,
) -> None:
    """Measures speed and memory of every model on this machine and writes `results/<study>/cost.json`."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    from vitcnn.inspect.benchmark import measure_costs
    from vitcnn.report.cost import HEAD, measured
    from vitcnn.store.costs import write_costs

    loaded, about, all_cells, paths, _ = load(study, overrides, results, runs, None, allow_import)
    console = Console(soft_wrap=True)

    def log(line: str) -> None:
        console.print(escape(line), style="dim", highlight=False)

    costs = measure_costs(loaded, about, all_cells, device=device, threads=threads, repeats=repeats, log=log)
    table = Table(Column("model", no_wrap=True), *(Column(name, justify="right", overflow="fold") for name in HEAD))
    for name, one in costs.models.items():
        table.add_row(escape(name), *measured(one))
    console.print(table)
    console.print(f"{costs.machine}, {costs.threads} thread(s), median (slowest–fastest) of {costs.repeats} turns")
    typer.echo(f"written to {write_costs(costs, paths)}")
