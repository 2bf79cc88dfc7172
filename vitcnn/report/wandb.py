"""A study's own run in W&B, beside those of its cells."""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from vitcnn.analysis.results import Results
from vitcnn.analysis.tidy import tidy
from vitcnn.analysis.verdict import verdict
from vitcnn.errors import ConfigError
from vitcnn.store.paths import StudyPaths
from vitcnn.store.records import Record
from vitcnn.system.wandb import is_disabled, is_online, start_run

if TYPE_CHECKING:
    import pandas as pd
    import wandb


def log_study(results: Results, paths: StudyPaths, mode: str) -> str | None:
    """Logs a finished report: the records as a table, figures, accuracy against n as a chart, the verdict in the
    summary, and three artifacts: the data set's facts, the records, the report. Returns where the run is: its address,
    or offline its folder; None if W&B is disabled. Raises ConfigError if there are no records or W&B fails."""
    if is_disabled(mode):
        return None
    if not results.records:
        raise ConfigError(f"{paths.records}: no records yet, so there is nothing to log")
    study = results.study
    run_id = f"study-{hashlib.sha256(study.name.encode()).hexdigest()[:12]}"
    about = {"name": study.name, "group": study.name, "job_type": "study", "config": study.model_dump(mode="json")}
    try:
        run = start_run(paths.run, run_id, not is_online(mode), **about)
        run.log(dict(_media(results, paths)))
        run.summary.update(_verdict(results))
        for artifact in _artifacts(results, paths):
            run.log_artifact(artifact)
        run.finish()
    except Exception as error:  # W&B raises many types
        raise ConfigError(f"W&B: {type(error).__name__}: {' '.join(str(error).split())}") from None
    return run.url or str(run.settings.sync_dir)


def _media(results: Results, paths: StudyPaths) -> Iterator[tuple[str, Any]]:
    import wandb

    yield "records", wandb.Table(dataframe=_plain(tidy(list(results.records.values()))))
    for path in sorted(paths.report.glob("*.png")):
        yield f"figures/{path.stem}", wandb.Image(str(path))
    shown = results.first_setting.at_largest_budget
    lines = {m: [(n, shown.mean(m, n)) for n in shown.study.sizes] for m in shown.models}
    known = {m: [(n, point.mean) for n, point in line if point] for m, line in lines.items()}
    known = {m: line for m, line in known.items() if line}
    xs, ys = ([[point[k] for point in line] for line in known.values()] for k in (0, 1))
    title = f"{shown.title}: test accuracy against n"
    yield "accuracy_against_n", wandb.plot.line_series(xs, ys, keys=list(known), title=title, xname="n")


def _plain(table: "pd.DataFrame") -> "pd.DataFrame":
    """Columns of one type each, as W&B's tables need them: lists and mixed columns become text."""
    odd = [name for name in table if table[name].dtype == object]
    return table.assign(**{name: table[name].map(lambda value: "" if value is None else str(value)) for name in odd})


def _verdict(results: Results) -> dict[str, Any]:
    """`verdict/crossing`: its outcome; `effect/crossing`: above 0 is as claimed."""
    first = results.first_setting.at_largest_budget
    out: dict[str, Any] = {"cells": len(results.cells), "records": len(results.records)}
    if not {*first.study.pair} <= {*first.models}:
        return out
    for claim in verdict(first).claims:
        out[f"verdict/{claim.key}"] = claim.outcome
        if claim.effect and math.isfinite(claim.effect.value):
            out[f"effect/{claim.key}"] = claim.effect.value
    return out


def _artifacts(results: Results, paths: StudyPaths) -> "Iterator[wandb.Artifact]":
    """Each names in its metadata what it was made from."""
    import wandb

    records: Sequence[Record] = list(results.records.values())
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", results.study.name)
    facts = {"dataset": results.study.dataset, **records[0].data}
    data = wandb.Artifact(f"{name}-dataset", "dataset", metadata={"sha256": records[0].data.get("sha256")})
    with data.new_file("dataset.json") as file:
        file.write(json.dumps(facts, indent=1))
    made = wandb.Artifact(f"{name}-records", "records", metadata={"dataset": data.digest, "records": len(records)})
    made.add_dir(str(paths.records))
    report = wandb.Artifact(f"{name}-report", "report", metadata={"records": made.digest})
    for path in sorted(paths.report.glob("*.*")):
        report.add_file(str(path))
    yield from (data, made, report)
