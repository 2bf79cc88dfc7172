"""Networks that begin with another study's weights: which ones, and what of them."""

import pytest
import torch
from pretraining import AFTER, BEFORE

from vitcnn.data.sources.registry import parse_dataset
from vitcnn.errors import ConfigError
from vitcnn.launch.ready import with_sources
from vitcnn.models.build import build
from vitcnn.store.paths import StudyPaths
from vitcnn.store.records import write_record
from vitcnn.study.matrix import cells
from vitcnn.training.networks import lane_of
from vitcnn.training.train import data_of, train_cell
from vitcnn.training.weights import load_weights


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
