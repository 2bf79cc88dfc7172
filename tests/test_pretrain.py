"""Networks that begin with another study's weights: which ones, what of them, and what the report says."""

import shutil

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from scipy import stats
from synthetic import every, make_study, write

from vitcnn.analysis.results import Results
from vitcnn.data.sources.registry import parse_dataset
from vitcnn.errors import ConfigError
from vitcnn.launch.ready import with_sources
from vitcnn.models.build import build
from vitcnn.report.report import write_report
from vitcnn.report.transfer import families, transfer_figure
from vitcnn.store.paths import StudyPaths
from vitcnn.store.records import write_record
from vitcnn.study.matrix import cells
from vitcnn.training.networks import lane_of
from vitcnn.training.train import data_of, train_cell
from vitcnn.training.weights import load_weights

BEFORE = """
dataset: digits
sizes: [50, 200]
seeds: 2
models:
  vit: {width: 32, depth: 1, heads: 2}
  deep: {arch: vit, width: 32, depth: 2, heads: 2}
  cnn: {channels: [4, 8], blocks: [1, 1]}
  timm/test_vit: {}
budget: {images_seen: 128}
recipe: {batch_size: 32}
"""
AFTER = """
dataset: digits
sizes: [100, 300]
seeds: 2
models:
  vit: &vit {arch: vit, width: 32, depth: 1, heads: 2}
  vit-50: {<<: *vit, pretrain: {study: before.yaml, n: 50}}
  vit-200: {<<: *vit, pretrain: {study: before.yaml, n: 200}}
  cnn: &cnn {arch: cnn, channels: [4, 8], blocks: [1, 1]}
  cnn-200: {<<: *cnn, pretrain: {study: before.yaml, n: 200, model: cnn}}
  tiny: {arch: timm/test_vit, pretrain: {study: before.yaml, n: 50}}
  linear: {}
budget: {images_seen: 128}
recipe: {batch_size: 32}
"""


@pytest.fixture
def pair(study):
    """`pair("seeds=1")`: the cells of the study before and of the one after it, by title; overrides for the latter."""

    def make(*overrides: str):
        before = cells(study(text=BEFORE, name="before.yaml"))
        after = cells(study(*overrides, text=AFTER, name="after.yaml"))
        return ({cell.title: cell for cell in some} for some in (before, after))

    return make


def test_a_cell_begins_with_the_cell_of_the_same_network_and_seed_at_the_n_that_is_named(pair):
    before, after = pair()
    for seed in (0, 1):
        for n in (100, 300):
            assert after[f"vit-n{n}-s{seed}"].init_from is None
            begun = {name: after[f"{name}-n{n}-s{seed}"] for name in ("vit-50", "vit-200", "cnn-200", "tiny")}
            assert {c.init_from_study for c in begun.values()} == {"before"}
            assert begun["vit-50"].init_from == before[f"vit-n50-s{seed}"].id
            assert begun["vit-200"].init_from == before[f"vit-n200-s{seed}"].id
            assert begun["cnn-200"].init_from == before[f"cnn-n200-s{seed}"].id
            assert begun["tiny"].init_from == before[f"timm/test_vit-n50-s{seed}"].id


def test_what_decides_the_weights_is_part_of_the_id_and_the_file_is_not(pair, study, tmp_path):
    _, after = pair()
    (tmp_path / "elsewhere.yaml").write_text(BEFORE)
    _, moved = pair("models.vit-50.pretrain.study=elsewhere.yaml")
    assert moved["vit-50-n100-s0"].id == after["vit-50-n100-s0"].id != after["vit-200-n100-s0"].id
    (tmp_path / "elsewhere.yaml").write_text(BEFORE.replace("images_seen: 128", "images_seen: 256"))
    _, longer = pair("models.vit-50.pretrain.study=elsewhere.yaml")
    assert longer["vit-50-n100-s0"].id != after["vit-50-n100-s0"].id
    assert longer["vit-200-n100-s0"].id == after["vit-200-n100-s0"].id


@pytest.mark.parametrize("name", ["vit-50", "cnn-200", "tiny"])
def test_all_but_the_head_is_what_was_trained_and_the_head_is_what_it_is_from_scratch(name, pair, tmp_path):
    before, after = pair()
    paths = {study: StudyPaths(study, tmp_path / "results", tmp_path / "runs") for study in ("before", "after")}
    cell = after[f"{name}-n100-s0"]
    source = next(c for c in before.values() if c.id == cell.init_from)
    record = train_cell(source, paths=paths["before"], keep=True)
    write_record(record, paths["before"])
    weights = load_weights(source.id, paths["before"])
    (data,) = data_of([cell], torch.device("cpu"), None)
    begun = lane_of(cell, data, paths["after"]).network.state_dict()
    fresh = lane_of(cell.model_copy(update={"init_from": None, "init_from_study": None}), data, paths["after"])
    head = {key for key in weights if key.startswith("head.")}
    assert len(head) == 2
    assert all(torch.equal(begun[key], weights[key]) for key in weights.keys() - head)
    assert all(torch.equal(begun[key], fresh.network.state_dict()[key]) for key in head)
    assert not torch.equal(begun["head.weight"], weights["head.weight"])
    assert train_cell(cell, paths=paths["after"]).weights != record.weights


def test_other_classes_get_a_head_of_their_own_and_other_tokens_are_refused(pair):
    before, _ = pair()
    arch, data = before["vit-n50-s0"].arch, parse_dataset("digits").info
    weights = build(arch, data)[0].state_dict()
    more = data.model_copy(update={"classes": 37})
    assert build(arch, more, weights=weights, own_head=True)[0].head.out_features == 37
    with pytest.raises(
        ConfigError, match=r"pretrain: vit: the weights do not fit at .*; check that both have the same image_size"
    ):
        build(arch.model_copy(update={"image_size": 96}), more, weights=weights, own_head=True)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("models.vit-50.pretrain.n=60", "models.vit-50.pretrain: before.yaml has no n = 60; known: 50, 200"),
        ("seeds=3", "models.vit-50.pretrain: before.yaml has no seed = 2; known: 0, 1"),
        ("models.vit-50.width=64", "no model of before.yaml has the same network as 'vit-50'"),
        ("models.cnn-200.pretrain.model=vit", "no model of before.yaml is called 'vit' and has the same network as"),
        ("models.cnn-200.pretrain.study=gone.yaml", "gone.yaml: No such file or directory; expected a YAML file"),
        ("models.cnn-200.pretrain.study=after.yaml", "pretrain: after.yaml is this study itself"),
        ("models.cnn-200.pretrain.size=5", "unknown key 'size' in models.cnn-200.pretrain"),
        ("models.cnn-200.pretrain=before.yaml", "models.cnn-200.pretrain: Input should be a mapping of keys"),
        ("models.cnn-200.init_from=cnn", "models.cnn-200: give either `init_from` or `pretrain`"),
        ("models.linear.pretrain={study: before.yaml, n: 50}", "linear does not support `pretrain`"),
        (
            "validation=300",
            "before.yaml holds out 297 images of digits for validation, this study 300, so it was trained on",
        ),
        ("models.cnn-200.pretrain.study=./after.yaml", "pretrain: ./after.yaml is this study itself"),
        ("dataset=cifar10", "models.vit-50.pretrain: images of digits have 1 channel, those of cifar10 3"),
        ("before={}", "'before' cannot be set; it is filled in from the file that `pretrain` names"),
    ],
)
def test_a_wrong_pretrain_is_refused_before_anything_is_trained(override, said, pair):
    with pytest.raises(ConfigError) as caught:
        pair(override)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("before", "validation", "after", "now", "said"),
    [
        ("digits", 200, "digits", 297, "before.yaml holds out 200 images of digits for validation, this study 297"),
        ("digits", 297, "digits", 100, None),
        ("fractals:size=16,test=500", 20_000, "digits", 300, None),
        ("digits", 200, "fractals:classes=10,size=16", 300, None),
        ("fractals:classes=10,size=16", 200, "fractals:classes=10,size=16", 300, None),  # never trained on
    ],
)
def test_images_that_validate_here_may_not_have_been_trained_on_before(study, before, validation, after, now, said):
    text = BEFORE.replace("dataset: digits", f"dataset: '{before}'\nvalidation: {validation}").replace("50,", "100,")
    study(text=text, name="before.yaml")
    how_begun = "pretrain: {study: before.yaml, n: 200}"
    models = f"models={{cnn: {{channels: [4, 8], blocks: [1, 1], {how_begun}}}}}"
    how = (f"dataset='{after}'", f"validation={now}", models)
    if said is None:
        assert {cell.init_from_study for cell in cells(study(*how, text=AFTER, name="after.yaml"))} == {"before"}
        return
    with pytest.raises(ConfigError, match=said):
        cells(study(*how, text=AFTER, name="after.yaml"))


def test_a_run_says_which_study_to_run_first_and_then_goes_through(vitcnn, study, tmp_path):
    study(text=BEFORE, name="before.yaml")
    study(text=AFTER, name="after.yaml")
    some = ["seeds=1", "sizes=[100]", "models={vit-50: {arch: vit, width: 32, depth: 1, heads: 2, "
            "pretrain: {study: before.yaml, n: 50}}}"]  # fmt: skip
    two, how = ["seeds=2", *some[1:]], ["--wandb", "off", "--workers", "1"]
    code, _, err = vitcnn("run", "after.yaml", *some, *how)
    assert code == 2
    assert "of before, which is not trained yet: `vitcnn run` that study first, with --keep-weights" in err
    assert vitcnn("run", "before.yaml", "models={vit: {width: 32, depth: 1, heads: 2}}", *how)[0] == 0
    code, _, err = vitcnn("run", "after.yaml", *two, *how)
    said, *records = err.splitlines()
    assert code == 2
    assert said.startswith("vitcnn: 2 cells (vit-50-n100-s0 and others) need the weights of cells, which were not kept")
    code, out, _ = vitcnn("plan", "after.yaml", *two)
    assert (code, "`vitcnn run` cannot start yet: 2 cells (vit-50-n100-s0 and others)" in out) == (0, True)
    assert len(records) == 2
    for record in records:
        (tmp_path / record.strip()).unlink()
    assert vitcnn("run", "before.yaml", "seeds=1", "sizes=[50]", "models={vit: {width: 32, depth: 1, heads: 2}}",
                  "--keep-weights", *how)[0] == 0  # fmt: skip
    assert vitcnn("run", "after.yaml", *some, *how)[0] == 0
    assert len(list((tmp_path / "results/after/records").glob("*.json"))) == 1


def test_other_tokens_than_before_are_refused_before_anybody_is_sent_to_train_the_other_study(vitcnn, study):
    study(text=BEFORE, name="before.yaml")
    study(text=AFTER, name="after.yaml")
    fractals = "dataset: 'fractals:size=96,classes=10,test=50'"
    study(text=BEFORE.replace("dataset: digits", fractals).replace("[50, 200]", "[100]"), name="small.yaml")
    some = "models={v: {arch: vit, width: 32, depth: 1, heads: 2, pretrain: {study: small.yaml, n: 100}}}"
    for command in (("plan",), ("run", "--wandb", "off")):
        code, _, err = vitcnn(command[0], "after.yaml", some, "seeds=1", *command[1:])
        assert code == 2
        assert (
            "models.v: vit takes images of 64 pixels here and of 96 in small.yaml; give both the same image_size" in err
        )


def test_weights_that_are_damaged_are_said_to_be_and_what_to_do(pair, tmp_path):
    before, _ = pair()
    cell, paths = before["cnn-n50-s0"], StudyPaths("before", tmp_path / "results", tmp_path / "runs")
    write_record(train_cell(cell, paths=paths, keep=True), paths)
    assert load_weights(cell.id, paths)
    whole = paths.weights(cell.id).read_bytes()
    for damaged in (whole[:1000], b"garbage"):
        paths.weights(cell.id).write_bytes(damaged)
        with pytest.raises(
            ConfigError, match=r"is damaged \(.*Error\); to train the cell again and keep its weights, delete"
        ):
            load_weights(cell.id, paths)


def test_images_of_a_folder_may_come_before_in_another_size_and_be_gone_when_the_report_is_written(
    vitcnn, study, tmp_path
):
    for k in range(24):
        path = tmp_path / "pets" / ("cat", "dog")[k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (10 * k, 0, 0)).save(path)
    text = "dataset: folder:pets\nseeds: 1\nvalidation: 4\nbudget: {images_seen: 32}\nrecipe: {batch_size: 8}\n"
    vit = "vit: {width: 32, depth: 1, heads: 2}"
    begun = "later: {arch: vit, width: 32, depth: 1, heads: 2, pretrain: {study: before.yaml, n: 8}}"
    study(text=f"{text}resolution: 16\nsizes: [8]\nmodels: {{{vit}}}\n", name="before.yaml")
    study(text=f"{text}resolution: 24\nsizes: [6]\nmodels: {{{vit}, {begun}}}\n", name="after.yaml")
    how = ["--wandb", "off", "--workers", "1", "--data-dir", "cache"]
    assert vitcnn("run", "before.yaml", "--keep-weights", *how)[0] == 0
    code, _, err = vitcnn("run", "after.yaml", "resolution=96", *how)
    assert (code, "models.later: vit takes images of 96 pixels here and of 64 in before.yaml; give both" in err) == (
        2,
        True,
    )
    assert vitcnn("run", "after.yaml", *how)[0] == 0
    shutil.rmtree(tmp_path / "pets")
    shutil.rmtree(tmp_path / "cache")
    assert vitcnn("report", "after.yaml")[0] == 0
    assert "## Pre-training" in (tmp_path / "results/after/report.md").read_text()


# ---- the report ----


def accuracy(cell) -> float:
    before = {"vit-50": 0.1, "vit-200": 0.2, "cnn-200": 0.02, "tiny": 0.0}.get(cell.model, 0.0)
    return 0.5 + before + 0.1 * (cell.n == 300) + 0.02 * cell.seed


def test_the_report_has_accuracy_by_images_before_for_each_network_and_n(study, tmp_path):
    study(text=BEFORE, name="before.yaml")
    made, all_cells, paths = make_study(tmp_path, text=AFTER, name="after")
    write(every(all_cells, accuracy), paths)
    text = write_report(made, all_cells, paths).read_text()
    table = text.partition("## Pre-training")[2].split("\n## ")[0]
    half = stats.t.ppf(0.975, 1) * 1.0
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")]
    assert rows[0][1:3] == ["vit, n = 100", "vit, n = 300"]
    assert [row[0] for row in rows[2:5]] == ["| none", "| 50", "| 200"]
    assert [row[1] for row in rows[2:5]] == [f"{v:.1f} ± {half:.1f} (2 seeds)" for v in (51, 61, 71)]
    assert [row[3] for row in rows[2:5]] == [f"51.0 ± {half:.1f} (2 seeds)", "–", f"53.0 ± {half:.1f} (2 seeds)"]
    assert rows[5] == rows[0]
    assert [row[0] for row in rows[7:]] == ["| 50", "| 200"]
    assert [row[1] for row in rows[7:]] == [f"+{v}.0 ± 0.0 (2 seeds)" for v in (10, 20)]  # paired: seeds cancel
    assert [row[3] for row in rows[7:]] == ["–", "+2.0 ± 0.0 (2 seeds)"]
    assert [row[5].rstrip(" |") for row in rows[7:]] == ["–", "–"]  # nothing from scratch to compare with
    assert (paths.report / "transfer.png").stat().st_size > 5_000
    assert "pre-trained on images of digits (before.yaml, 128 images seen). Then" in table


def test_the_report_says_where_the_images_before_were_made_from_seeds(study, tmp_path):
    study(text=BEFORE.replace("digits", "fractals:classes=5"), name="before.yaml")
    made, all_cells, paths = make_study(tmp_path, text=AFTER, name="after")
    text = write_report(made, all_cells, paths).read_text()
    assert "on images of fractals:classes=5, generated (before.yaml, 128 images seen). Then" in text


def test_a_line_joins_what_differs_by_the_images_before_alone(study):
    twins = BEFORE.replace("deep: {arch: vit, width: 32, depth: 2", "twin: {arch: vit, width: 32, depth: 1")
    study(text=twins, name="before.yaml")
    vit = "arch: vit, width: 32, depth: 1, heads: 2"
    begun = {"a-50": ("vit", 50), "b-200": ("twin", 200), "a-200": ("vit", 200), "b-50": ("twin", 50)}
    models = ", ".join(
        f"{name}: {{{vit}, pretrain: {{study: before.yaml, n: {n}, model: {of}}}}}" for name, (of, n) in begun.items()
    )
    models += f", c-50: {{{vit}, recipe: {{lr: 0.1}}, pretrain: {{study: before.yaml, n: 50, model: vit}}}}"
    known = families(study(f"models={{{models}}}", text=AFTER, name="after.yaml").models)
    assert [sorted(e.name for e in family.values()) for family in known.values()] == [
        ["a-200", "a-50"],
        ["b-200", "b-50"],
        ["c-50"],
    ]


def test_the_one_from_scratch_is_that_of_the_same_recipe_and_another_recipe_is_said(study, tmp_path):
    study(text=BEFORE, name="before.yaml")
    strong = "models.vit-strong={arch: vit, width: 32, depth: 1, heads: 2, recipe: {lr: 0.003}}"
    own = "models.vit-200.recipe={lr: 0.003}"
    alike = "models.vit-50.recipe={lr: 0.003}"
    found = families(study(strong, own, alike, text=AFTER, name="after.yaml").models)
    assert {n: e.name for n, e in found["vit-strong"].items()} == {0: "vit-strong", 50: "vit-50", 200: "vit-200"}
    for overrides, said in (((own, alike), True), ((), False)):
        made, all_cells, paths = make_study(tmp_path, *overrides, text=AFTER, name="after")
        write(every(all_cells, accuracy), paths)
        text = write_report(made, all_cells, paths).read_text()
        assert (" From scratch, vit has another recipe, which is part of this gain.\n" in text) == said


def test_what_was_shuffled_before_is_said(study, tmp_path):
    (tmp_path / "before.yaml").write_text(BEFORE + "permutation: {patches: 1}\n", encoding="utf-8")
    made, all_cells, paths = make_study(tmp_path, text=AFTER, name="after")
    write(every(all_cells, accuracy), paths)
    assert "images of digits, all patches permuted (before.yaml, " in write_report(made, all_cells, paths).read_text()


def test_a_network_begun_within_the_study_is_another_cell_than_one_begun_with_the_same_weights_of_another(study):
    study(text=BEFORE, name="before.yaml")
    both = (
        "sizes=[50]",
        "models={vit: {width: 32, depth: 1, heads: 2}, "
        "more: {arch: vit, width: 32, depth: 1, heads: 2, init_from: vit}, "
        "anew: {arch: vit, width: 32, depth: 1, heads: 2, pretrain: {study: before.yaml, n: 50}}}",
    )
    made = {cell.title: cell for cell in cells(study(*both, "seeds=1", text=AFTER, name="after.yaml"))}
    assert made["more-n50-s0"].init_from == made["anew-n50-s0"].init_from == made["vit-n50-s0"].id
    assert made["more-n50-s0"].id != made["anew-n50-s0"].id


def test_weights_of_another_study_are_not_waited_for_in_this_one(study, tmp_path):
    study(text=BEFORE, name="before.yaml")
    both = (
        "sizes=[50]",
        "models={vit: {width: 32, depth: 1, heads: 2}, "
        "anew: {arch: vit, width: 32, depth: 1, heads: 2, pretrain: {study: before.yaml, n: 50}}}",
    )
    waiting = cells(study(*both, "seeds=1", text=AFTER, name="after.yaml"))
    with pytest.raises(ConfigError, match=r"of before, which is not trained yet"):
        with_sources(waiting, StudyPaths("after", tmp_path / "results", tmp_path / "runs"))


def test_a_study_without_pretraining_has_no_such_section(tmp_path):
    made, all_cells, paths = make_study(tmp_path)
    write(every(all_cells, lambda _: 0.5), paths)
    assert "Pre-training" not in write_report(made, all_cells, paths).read_text()
    assert not (paths.report / "transfer.png").exists()


def test_the_figure_has_a_line_for_each_network_and_n_with_scratch_at_its_left(study, tmp_path):
    study(text=BEFORE, name="before.yaml")
    made, all_cells, _ = make_study(tmp_path, text=AFTER, name="after")
    results = Results.of(made, all_cells, every(all_cells, accuracy), parse_dataset("digits").info)
    ax = transfer_figure(Figure().subplots(), results)
    assert list(families(made.models)) == ["vit", "cnn", "tiny"]
    labels = ax.get_legend_handles_labels()[1]
    assert labels == [f"{name}, n = {n}" for name in ("vit", "cnn", "tiny") for n in (100, 300)]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["none", "50", "200"]
    first = ax.get_legend_handles_labels()[0][0].lines[0]
    assert first.get_ydata() == pytest.approx([0.51, 0.61, 0.71])
    assert sorted(first.get_xdata()) == list(first.get_xdata())


def test_what_was_trained_on_two_data_sets_is_two_lines_that_begin_with_the_same_from_scratch(study):
    study(text=BEFORE, name="before.yaml")
    study(text=BEFORE, name="other.yaml")
    more = "models.vit-o50={arch: vit, width: 32, depth: 1, heads: 2, pretrain: {study: other.yaml, n: 50}}"
    known = families(study(more, text=AFTER, name="after.yaml").models)
    named = {name: {n: model.name for n, model in family.items()} for name, family in known.items()}
    assert named == {
        "vit-50": {0: "vit", 50: "vit-50", 200: "vit-200"},
        "cnn": {0: "cnn", 200: "cnn-200"},
        "tiny": {50: "tiny"},
        "vit-o50": {0: "vit", 50: "vit-o50"},
    }
