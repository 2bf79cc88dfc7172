"""The command line: mistakes are one sentence and exit status 2, and only what trains loads what trains."""

import os
import re
import subprocess
import sys

import pytest
from synthetic import SEARCH, every, make_study, write

HEAVY = ("torch", "torchvision", "lightning", "timm", "wandb", "sklearn")


def process(code: str, *words: str, cwd=None) -> subprocess.CompletedProcess:
    """Python in a process of its own, the words as its arguments; stderr's last line: heavy modules it loaded."""
    ending = f"\nfinally:\n    print('loaded:', *[m for m in {HEAVY} if m in sys.modules], file=sys.stderr)"
    whole = "import sys\ntry:\n" + "\n".join(f"    {line}" for line in code.splitlines()) + ending
    return subprocess.run([sys.executable, "-c", whole, *map(str, words)], capture_output=True, text=True, cwd=cwd)


def loaded(done: subprocess.CompletedProcess) -> list[str]:
    return done.stderr.strip().splitlines()[-1].removeprefix("loaded:").split()


# ---- what is loaded ----


def test_reading_records_loads_nothing_that_trains():
    modules = ["vitcnn.store.records", "vitcnn.launch.table", "vitcnn.cli", "vitcnn.analysis.select",
               "vitcnn.analysis.results", "vitcnn.report.report"]  # fmt: skip
    lines = [f"import {m}\nprint('{m}', *[h for h in {HEAVY} if h in sys.modules])" for m in modules]
    done = process("\n".join(lines))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == modules
    assert loaded(done) == []


def test_help_loads_nothing_that_trains():
    done = process("from vitcnn.cli import main\nmain()", "run", "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout
    assert loaded(done) == []


def test_status_loads_nothing_that_trains_records_or_not(tmp_path):
    _, all_cells, paths = make_study(tmp_path)
    write(every(all_cells[:4], lambda _: 0.5), paths)
    done = process("from vitcnn.cli import main\nmain()", "status", "trio.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "4 done" in done.stdout
    assert loaded(done) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sede=1"], "trio.yaml: unknown key 'sede'; did you mean 'seeds'?"),
        (["--wandb", "nonsense"], "wandb 'nonsense': not valid; use one of auto, online, offline, off"),
    ],
)
def test_a_mistake_ends_a_run_with_status_2_before_anything_is_loaded_or_written(tmp_path, words, said):
    make_study(tmp_path)
    done = process("from vitcnn.cli import main\nmain()", "run", "trio.yaml", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"vitcnn: {said}")
    assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == ["trio.yaml"]
    assert loaded(done) == []


# ---- mistakes ----


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("dataset=digit", "unknown data set 'digit'; did you mean 'digits'?"),
        ("recipe.lrr=1", "unknown key 'lrr' in recipe; did you mean 'lr'?"),
        ("models.vit.dept=1", "did you mean 'depth'?"),
        ("sizes=[2000]", "2,000 images requested, 1,000 available"),
        ("sizes", "'sizes' is not a valid override; write key=value"),
        ("recipes=nowhere.yaml", "`vitcnn select SEARCH.yaml` creates it"),
    ],
)
@pytest.mark.parametrize("command", ["status", "report", "select"])
def test_a_mistake_in_a_study_is_one_message_that_says_what_to_change(vitcnn, tmp_path, command, override, said):
    make_study(tmp_path)
    code, out, err = vitcnn(command, "trio.yaml", override)
    assert code == 2
    assert err.startswith("vitcnn: ")
    assert said in err
    assert "Traceback" not in out + err
    assert sorted(os.listdir(tmp_path)) == ["trio.yaml"]


def test_an_image_size_that_gives_no_whole_tokens_is_refused_before_anything_is_trained(vitcnn, tmp_path):
    make_study(tmp_path)
    code, _, err = vitcnn("run", "trio.yaml", "models={vit: {image_size: 72}, cnn: {}}")
    assert (code, err) == (2, "vitcnn: vit: an image of 72 pixels cannot be cut into whole 16×16 tokens\n")


def test_a_study_that_is_not_there_is_named(vitcnn):
    code, _, err = vitcnn("status", "nowhere.yaml")
    assert code == 2
    assert "nowhere.yaml: No such file" in err


def test_curves_without_runs_say_which_folder_is_missing(vitcnn, tmp_path):
    make_study(tmp_path)
    code, _, err = vitcnn("curves", "trio.yaml")
    assert code == 2
    assert "runs/trio/wandb: no W&B runs found" in err


def test_files_that_cannot_be_written_are_named(vitcnn, tmp_path):
    _, all_cells, paths = make_study(tmp_path)
    write(every(all_cells, lambda _: 0.5), paths)
    code, _, err = vitcnn("export", "trio.yaml", "--csv", "no/such.csv")
    assert (code, err) == (2, "vitcnn: --csv no/such.csv: No such file or directory\n")
    (tmp_path / "file").write_text("")
    code, _, err = vitcnn("report", "trio.yaml", "--results", "file")
    assert code == 2
    assert err.startswith("vitcnn: file/trio")
    assert "Traceback" not in err


def test_selecting_from_an_unfinished_search_is_refused(vitcnn, tmp_path):
    _, all_cells, paths = make_study(tmp_path, text=SEARCH, name="search")
    write(every(all_cells[1:], lambda _: 0.5), paths)
    code, _, err = vitcnn("select", "search.yaml")
    assert code == 2
    assert f"the search is not finished: 1 cell missing, {all_cells[0].title}" in err
    assert not (paths.report / "recipes.yaml").exists()


def test_selecting_from_a_study_that_is_no_search_is_refused(vitcnn, tmp_path):
    make_study(tmp_path)
    code, _, err = vitcnn("select", "trio.yaml")
    assert code == 2
    assert "trio is not a search: it has no `grid`" in err


# ---- what works ----


def test_status_of_a_study_not_begun_shows_waiting_cells_and_leaves_no_folder(vitcnn, tmp_path):
    make_study(tmp_path)
    code, out, err = vitcnn("status", "trio.yaml", "seeds=2", "models=[vit, cnn]")
    assert (code, err) == (0, "")
    assert "trio: 12 waiting  of 12 cells" in out
    assert out.count("0/2") == 6
    assert sorted(os.listdir(tmp_path)) == ["trio.yaml"]


def test_report_writes_from_records_where_it_is_told(vitcnn, tmp_path):
    _, all_cells, paths = make_study(tmp_path, "models=[cnn]", text=SEARCH, name="search")
    write(every(all_cells, lambda c: 0.5 + 10 * c.recipe.lr), paths)
    (tmp_path / "results").rename(tmp_path / "elsewhere")
    code, out, _ = vitcnn("report", "search.yaml", "models=[cnn]", "--results", "elsewhere")
    assert code == 0
    path = tmp_path / re.search(r"written to (\S+)", out)[1]
    assert path == tmp_path / "elsewhere" / "search" / "report.md"
    assert "| lr=0.01 augment=none | **59.9** | **59.9** |" in path.read_text(encoding="utf-8")


def test_select_writes_and_prints_the_recipes(vitcnn, tmp_path):
    _, all_cells, paths = make_study(tmp_path, text=SEARCH, name="search")
    write(every(all_cells, lambda c: 0.5 + 10 * c.recipe.lr), paths)
    code, out, _ = vitcnn("select", "search.yaml")
    assert code == 0
    assert "lr: 0.01" in out
    assert (paths.report / "recipes.yaml").read_text(encoding="utf-8") in out


def test_every_data_set_is_listed_by_the_name_that_a_study_uses_on_a_usual_terminal(vitcnn, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = vitcnn("data", "list")
    assert code == 0
    assert "digits" in out
    assert "fashion-mnist" in out
    assert f"cache: {os.environ['VITCNN_DATA']}" in out
