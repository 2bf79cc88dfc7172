"""What people type and do not mean: taken as it is meant where that is plain, else refused with what to write."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
from synthetic import SEARCH, TRIO, every, make_study, write

from vitcnn.data.augment.spec import Augment, parse_augment
from vitcnn.errors import ConfigError
from vitcnn.store.status import quarantine, states
from vitcnn.study.load import load_study
from vitcnn.study.matrix import cells

# ---- numbers ----


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("recipe.lr=yes", "recipe.lr: Input should be a valid number, unable to parse string as a number"),
        ("recipe.batch_size=true", "recipe.batch_size: true and false are not valid values"),
        ("sizes=[50, on]", r"sizes\.1: Input should be a valid integer, unable to parse"),
        ("models.vit.depth=no", "models.vit.depth: Input should be a valid integer"),
        ("sizes=[1:40]", "sizes.0: Input should be a valid integer"),
        ("recipe.lr=0:00.5", "recipe.lr: Input should be a valid number"),
        (
            "models.net={arch: timm/test_vit, options: {qkv_bias: no}}",
            "options.qkv_bias: no is a string; write true or",
        ),
    ],
)
def test_what_yaml_takes_for_another_number_is_refused(tmp_path, override, says):
    with pytest.raises(ConfigError, match=says):
        make_study(tmp_path, override)


@pytest.mark.parametrize("written", ["1e5", "1.0e5", "1E+5", "100_000", "100000", "0100000"])
def test_a_whole_number_may_be_written_with_an_exponent(tmp_path, written):
    assert make_study(tmp_path, f"budget={{images_seen: {written}}}")[0].budget[0].images_seen == 100_000


@pytest.mark.parametrize("written", ["1e-3", "1.E-3", ".1e-2", "0.001"])
def test_a_rate_may_be_written_with_an_exponent(tmp_path, written):
    assert make_study(tmp_path, f"recipe.lr={written}")[0].recipe.lr == 0.001


def test_truth_values_of_a_timm_model_stay(tmp_path):
    models = "models={net: {arch: timm/test_vit, pretrained: false, options: {qkv_bias: true}}, linear: {}}"
    study, _, _ = make_study(tmp_path, models)
    assert study.models[0].arch.options == {"qkv_bias": True}


# ---- augmentations ----


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("erase:1.0", Augment(erase=1.0)),
        ("erase:.5", Augment(erase=0.5)),
        ("mixup:.8+cutmix:1.", Augment(mixup=0.8, cutmix=1.0)),
        ("erase:0.05", Augment(erase=0.05)),
    ],
)
def test_numbers_of_augmentations_may_be_written_as_people_do(text, parsed):
    assert parse_augment(text) == parsed


@pytest.mark.parametrize("text", ["erase:1.1", "erase:2", "erase:0", "erase:0.0", "erase:.", "mixup:0.", "cutmix:.0"])
def test_numbers_out_of_range_are_refused(text):
    with pytest.raises(ValueError, match="is not a valid augmentation"):
        parse_augment(text)


def test_none_stands_alone():
    with pytest.raises(ValueError, match="'none' cannot be combined"):
        parse_augment("none+flip")


@pytest.mark.parametrize(
    ("augment", "says"),
    [
        ("shift:8", "'shift:8': digits's images are 8 pixels wide; the shift must be smaller"),
        ("flip", "'flip': a mirrored image of digits is not of the same class"),
    ],
)
def test_what_shows_other_classes_or_nothing_is_refused_by_studies_and_contact_sheets(tmp_path, vitcnn, augment, says):
    with pytest.raises(ConfigError, match=says):
        make_study(tmp_path, f"recipe.augment={augment}")
    code, _, err = vitcnn("data", "show", "digits", "--augment", augment)
    assert code == 2
    assert says in err


# ---- names ----


def test_a_pair_that_is_typed_wrong_is_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(ConfigError, match=r"pair: no model is called 'vitt'; did you mean 'vit'\?"):
        make_study(tmp_path, "pair=[cnn, vitt]")
    make_study(tmp_path, "models=[swin, linear]")  # nobody asked for a pair


@pytest.mark.parametrize("override", ["models.cnn={channels: [], blocks: []}", "models.swin={depths: [], heads: []}"])
def test_a_network_without_stages_is_refused(tmp_path, override):
    with pytest.raises(ConfigError, match="give at least one"):
        make_study(tmp_path, override)


def test_a_file_whose_name_names_no_folder_is_told_of_name(tmp_path):
    path = tmp_path / "my study.yaml"
    path.write_text(TRIO)
    with pytest.raises(ConfigError, match=r"not a valid name: .* \(default: the file's name\)"):
        load_study(path)


def test_a_missing_study_to_begin_with_is_named_with_who_asked_for_it(tmp_path):
    with pytest.raises(ConfigError, match=r"pretrain: .*nowhere\.yaml: No such file"):
        make_study(tmp_path, "models={vit: {pretrain: {study: nowhere.yaml, n: 50}}, cnn: {}}")


def test_recipes_found_on_another_data_set_are_said_to_be(tmp_path, vitcnn):
    _, all_cells, paths = make_study(tmp_path, text=SEARCH, name="search")
    write(every(all_cells, lambda c: 0.5 + 10 * c.recipe.lr), paths)
    assert vitcnn("select", "search.yaml")[0] == 0
    recipes = paths.report / "recipes.yaml"
    assert make_study(tmp_path, f"recipes={recipes}", "models=[vit, cnn]")[0].search == "search"
    recipes.write_text(recipes.read_text().replace("dataset: digits", "dataset: cifar10"))
    assert make_study(tmp_path, f"recipes={recipes}", "models=[vit, cnn]")[0].search == "search, made on cifar10"
    recipes.write_text("search: x\nmodels: {vit: 3}\n")
    with pytest.raises(ConfigError, match=r"recipes: .*recipes\.yaml: not a file written by `vitcnn select`"):
        make_study(tmp_path, f"recipes={recipes}")


# ---- files that are not what they were ----


@pytest.mark.parametrize("text", ["{}", "[]", "3", '{"time": 1}', ""])
def test_a_sign_of_life_that_is_none_counts_for_nothing(tmp_path, text):
    _, all_cells, paths = make_study(tmp_path, "sizes=[50]", "seeds=1")
    folder = paths.cell(all_cells[0].id)
    folder.mkdir(parents=True)
    (folder / "progress.json").write_text(text)
    assert states(all_cells, paths)[0].kind == "waiting"


def test_a_sign_of_life_from_the_future_is_no_worker(tmp_path):
    _, all_cells, paths = make_study(tmp_path, "sizes=[50]", "seeds=1")
    folder = paths.cell(all_cells[0].id)
    folder.mkdir(parents=True)
    life = {"time": time.time() + 10**9, "pid": 1, "host": "elsewhere", "step": 1, "steps": 10}
    (folder / "progress.json").write_text(json.dumps(life))
    assert states(all_cells, paths)[0].kind == "stopped"


@pytest.mark.parametrize("text", ["", "garbage", "[]", "{}"])
def test_a_failure_that_says_no_error_is_quarantined(tmp_path, text):
    _, all_cells, paths = make_study(tmp_path, "sizes=[50]", "seeds=1")
    path = paths.failure(all_cells[0].id)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    paths.records.mkdir(parents=True, exist_ok=True)
    (line,) = quarantine(paths)
    aside = f"quarantined as {path.name}.broken; the cell is trained again unless it has another record"
    assert f"{path}: has no `error`; {aside}" == line
    assert states(all_cells, paths)[0].kind == "waiting"


# ---- Ctrl-C ----


def test_ctrl_c_time_and_again_while_workers_start_leaves_no_traceback_and_no_lock(tmp_path):
    path = tmp_path / "trio.yaml"
    path.write_text(TRIO)
    main = "from vitcnn.cli import main; main()"
    command = [sys.executable, "-c", main, "run", path, "--wandb", "off", "--workers", "2"]
    running = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # a shell's background job ignores it; fmt: skip
    locks = tmp_path / "runs" / "trio" / "locks"
    deadline = time.time() + 300
    while not list(locks.glob("*")) and time.time() < deadline:
        time.sleep(0.1)
    time.sleep(1.0)
    for _ in range(5):  # as a terminal sends it: to the launcher and all of its workers
        os.killpg(running.pid, signal.SIGINT)
        time.sleep(0.25)
    out, _ = running.communicate(timeout=300)
    assert "Traceback" not in out, out
    assert "KeyboardInterrupt" not in out
    assert "Interrupted" in out
    assert list(locks.glob("*")) == []
    assert cells(load_study(path))
