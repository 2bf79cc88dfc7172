"""The table of a study's state shows what is done, running and failed, and when it will be over."""

import json
import time

import pytest
from rich.console import Console
from synthetic import every, make_study, write

from vitcnn.data.sources.registry import parse_dataset
from vitcnn.launch.plan import plan
from vitcnn.launch.table import duration, seconds_left, speeds, table
from vitcnn.store.paths import write_atomically
from vitcnn.store.status import State, states, write_progress


def shown(all_cells, paths, **how) -> str:
    console = Console(record=True, width=140, file=open("/dev/null", "w"))  # noqa: SIM115  closed with the console
    console.print(table(states(all_cells, paths), paths, **how))
    return console.export_text()


def row(text: str, name: str) -> list[str]:
    rows = [[part.strip() for part in line.strip("│").split("│")] for line in text.splitlines() if line[:1] == "│"]
    (found,) = [row for row in rows if row[0] == name]
    return found


@pytest.fixture
def trio(tmp_path):
    return make_study(tmp_path)


def test_a_study_not_begun_is_all_waiting(trio):
    _, all_cells, paths = trio
    text = shown(all_cells, paths)
    assert "trio: 36 waiting  of 36 cells" in text
    assert "left" not in text
    assert row(text, "vit") == ["vit", "0/3", "0/3", "0/3"]


def test_done_running_stopped_and_failed_are_shown(trio):
    _, all_cells, paths = trio
    done = [c for c in all_cells if (c.model, c.n) == ("vit", 50)]
    write(every(done, lambda _: 0.5), paths)
    running, stopped, failed = [c for c in all_cells if (c.model, c.n) == ("cnn", 200)]
    write_progress(paths.cell(running.id), step=7, steps=20, accuracy=0.8125, images_per_s=432.1)
    write_progress(paths.cell(stopped.id), step=3, steps=20, accuracy=None, images_per_s=None, stopped=True)
    write_atomically(paths.cell(failed.id) / "failure.json", json.dumps({"error": "NotFinite: loss [nan] at step 3"}))
    text = shown(all_cells, paths)
    assert "trio: 3 done  1 running  1 stopped  1 failed  30 waiting  of 36 cells" in text
    assert "left" in text
    assert row(text, "vit") == ["vit", "3/3", "0/3", "0/3"]
    assert row(text, "cnn") == ["cnn", "0/3", "0/3", "0/3"]
    assert row(text, running.title) == [running.title, "running", "7 of 20", "81.2%", "432"]
    assert row(text, stopped.title) == [stopped.title, "stopped", "3 of 20", "", ""]
    assert f"failed: {failed.title}: NotFinite: loss [nan] at step 3" in text


def test_a_finished_study_has_nothing_left(trio):
    _, all_cells, paths = trio
    write(every(all_cells, lambda _: 0.5), paths)
    text = shown(all_cells, paths, workers=2)
    assert "trio: 36 done  of 36 cells" in text
    assert "left" not in text


def test_names_are_shown_as_they_are_and_longer_training_apart(tmp_path):
    models = "models={'vit[red]': {arch: vit}, cnn: {}}"
    _, all_cells, paths = make_study(tmp_path, models, "pair=[cnn, 'vit[red]']", "budget_check={}")
    write(every([c for c in all_cells if c.role == "budget-check"], lambda _: 0.5), paths)
    text = shown(all_cells, paths)
    assert row(text, "vit[red]") == ["vit[red]", "0/3", "0/3", "0/3"]
    assert row(text, "cnn (long)") == ["cnn (long)", "1/1", "", "1/1"]


# ---- how long it will take ----


def some(trio, model: str, *kinds: str, **detail) -> list[State]:
    cells = [c for c in trio[1] if c.model == model]
    return [State(cell, kind, detail if kind == "running" else {}) for cell, kind in zip(cells, kinds, strict=False)]


def test_the_time_left_is_images_left_by_speed_by_workers(trio):
    waiting = some(trio, "vit", "done", "waiting", "failed", "waiting")
    assert waiting[0].cell.images_seen == 1280
    assert seconds_left(waiting, {"vit": 10.0}, 1) == pytest.approx(3 * 128)
    assert seconds_left(waiting, {"vit": 10.0}, 3) == pytest.approx(128)


def test_a_cell_that_failed_for_good_is_no_work_left_and_plan_says_so(trio):
    study, all_cells, paths = trio
    final = [State(cell, "failed", {"final": True}) for cell in all_cells if cell.model == "vit"]
    assert seconds_left(final, {"vit": 10.0}, 1) == 0
    write(every([c for c in all_cells if c.model != "vit"], lambda _: 0.5), paths)
    paths.failures.mkdir(parents=True)
    for state in final:
        paths.failure(state.cell.id).write_text('{"error": "the training loss is nan"}')
    group = plan(study, parse_dataset("digits").info, states(all_cells, paths), paths, 2)
    assert "nothing left to train" in group.renderables


def test_a_model_not_yet_seen_counts_as_the_mean_of_the_others(trio):
    waiting = some(trio, "vit", "waiting") + some(trio, "cnn", "waiting") + some(trio, "swin", "waiting")
    assert seconds_left(waiting, {"vit": 10.0, "cnn": 30.0}, 1) == pytest.approx(1280 / 10 + 1280 / 30 + 1280 / 20)


def test_a_running_cell_counts_by_its_rest_and_what_passed_since_its_last_sign(trio):
    running = some(trio, "vit", "running", step=15, time=time.time() - 12)
    assert seconds_left(running, {"vit": 10.0}, 1) == pytest.approx(1280 / 4 / 10 - 12, abs=1)
    assert seconds_left(some(trio, "vit", "running", step=20, time=time.time() - 60), {"vit": 10.0}, 1) == 0


def test_the_baseline_costs_no_time_and_without_speed_or_workers_none_is_known(trio):
    waiting = some(trio, "vit", "waiting")
    assert seconds_left(some(trio, "linear", "waiting", "waiting"), {"vit": 10.0}, 1) == 0
    assert seconds_left(waiting, {}, 1) is None
    assert seconds_left(waiting, {"vit": 10.0}, 0) is None


def test_cells_that_one_process_trains_as_one_program_count_as_one_at_work(trio):
    _, all_cells, paths = trio
    three = [c for c in all_cells if c.model == "vit"][:3]
    for one in three:
        write_progress(paths.cell(one.id), step=0, steps=20, images_per_s=10.0)
    assert "about 6 min left" in shown(three, paths)  # 3 × 1,280 images at 10 a second


def test_speed_is_a_running_cells_else_a_records(trio):
    _, all_cells, paths = trio
    vit, cnn, _ = (next(c for c in all_cells if c.model == name) for name in ("vit", "cnn", "linear"))
    records = every(all_cells[:4], lambda _: 0.5)  # one of each model
    write(records, paths)
    recorded = {r.cell.model: r.cost.images_per_s for r in records}
    found = [State(c, "done") for c in all_cells[:4]]
    assert speeds(found, paths) == {name: recorded[name] for name in ("vit", "swin", "cnn")}
    found.append(State(next(c for c in all_cells[4:] if c.model == "vit"), "running", {"images_per_s": 5.0}))
    assert speeds(found, paths)[vit.model] == 5.0
    assert speeds(found, paths)[cnn.model] == recorded["cnn"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (45.4, "45 s"), (89, "89 s"), (90, "2 min"), (719, "12 min"), (5400, "1 h 30 min"),
     (7200, "2 h 0 min"), (12_000, "3 h 20 min")],
)  # fmt: skip
def test_durations_are_said_as_people_say_them(seconds, text):
    assert duration(seconds) == text
