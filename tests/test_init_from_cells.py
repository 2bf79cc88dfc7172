"""Which cell another begins with: part of its id, refused where it cannot be, and said in exports."""

import csv

import pytest
from synthetic import every, make_study, write

from vitcnn.errors import ConfigError
from vitcnn.launch.scheduler import _is_ready
from vitcnn.study.cell import Cell
from vitcnn.study.matrix import cells

FAMILY = """
dataset: digits
sizes: [200]
seeds: 1
models:
  cnn: &small {arch: cnn, channels: [4, 8], blocks: [1, 1]}
  cnn-on: {<<: *small, init_from: cnn}
  freed: {<<: *small, arch: cnn-attention, init_from: cnn}
  freed-on: {<<: *small, arch: cnn-attention, init_from: freed}
  vit: &vit {arch: vit, width: 16, depth: 1, heads: 2}
  vit-on: {<<: *vit, init_from: vit}
  linear: {C: [1.0]}
budget: {images_seen: 640}
"""
STARTS = {"cnn-on": "cnn", "freed": "cnn", "freed-on": "freed", "vit-on": "vit"}


def by_name(all_cells: list[Cell]) -> dict[str, Cell]:
    return {cell.model: cell for cell in all_cells}


@pytest.fixture
def cell(study):
    """`cell("freed", "recipe.lr=1")`: the first cell of a model of the family."""
    return lambda name, *overrides: by_name(cells(study(*overrides, text=FAMILY))[::-1])[name]


def test_a_cell_waits_for_the_one_it_begins_with_while_that_waits_or_runs(study):
    mine = by_name(cells(study(text=FAMILY)))
    cnn, on, freed, freed_on, linear = ((mine[name],) for name in ("cnn", "cnn-on", "freed", "freed-on", "linear"))
    for job, unfinished, ready in (
        (on, [on, freed, cnn], False),
        (cnn, [on, freed, cnn], True),  # a source cell on its second try
        (freed, [on, freed, linear, cnn], False),
        (linear, [on, freed, linear, cnn], True),
        (freed_on, [freed_on, freed], False),
        (freed, [freed_on, freed], True),  # its source cell is done, or has failed
    ):
        assert _is_ready(job, {other[0].id for other in unfinished}) == ready


def test_a_start_and_all_that_decides_it_are_part_of_the_id(cell):
    freed = cell("freed")
    assert freed.init_from == cell("cnn").id
    assert freed.model_copy(update={"init_from": None}).id != freed.id
    changes = ("models.cnn.recipe={lr: 0.01}", "budget.images_seen=1280", "seeds=[1]")
    others = [freed, *(cell("freed", change) for change in changes)]
    assert len({one.id for one in others}) == len({one.init_from for one in others}) == 4
    assert cell("freed", "models.linear.C=[2.0]", "seeds=2").id == freed.id


def test_a_starters_recipe_changes_the_ids_of_all_that_follow_from_it_and_of_no_other(study):
    before, after = (by_name(cells(study(*more, text=FAMILY))) for more in ([], ["models.cnn.recipe={lr: 0.01}"]))
    changed = {name for name in before if before[name].id != after[name].id}
    assert changed == {"cnn", "cnn-on", "freed", "freed-on"}


def test_every_cell_begins_with_one_of_its_own_size_seed_and_setting_trained_for_the_usual_time(study):
    permutations = "permutation=[{patches: 0}, {patches: 1}]"
    check = ["pair=[cnn-on, freed]", "budget_check={factor: 2}"]
    all_cells = cells(study(permutations, *check, "sizes=[50, 200]", "seeds=2", text=FAMILY))
    known = {one.id: one for one in all_cells}
    begun = [one for one in all_cells if one.init_from]
    assert len(begun) == 4 * 2 * 2 * 2 + 2 * 2 * 2  # models × sizes × seeds × settings, and at seed 0 the pair longer
    for one in begun:
        source = known[one.init_from]
        assert (one.n, one.seed, one.permutation) == (source.n, source.seed, source.permutation)
        assert (source.model, source.role) == (STARTS[one.model], "main")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "models.freed.init_from=cn",
            "models.freed.init_from: no network above it is called 'cn'; did you mean 'cnn'?",
        ),
        ("models.cnn-on.init_from=cnn-on", "models.cnn-on.init_from: no network above it is called 'cnn-on'"),
        ("models.cnn.init_from=freed", "models.cnn.init_from: no network above it is called 'freed'"),
        ("models.vit-on.init_from=linear", "models.vit-on.init_from: no network above it is called 'linear'"),
        ("models.linear.init_from=cnn", "models.linear.init_from: logistic regression does not support `init_from`"),
        ("models.vit-on.init_from=cnn", "'cnn' is a different network; its weights do not fit 'vit-on'"),
        ("models.freed.init_from=vit", "models.freed.init_from: no network above it is called 'vit'"),
        ("models.freed.channels=[4, 16]", "'cnn' is a different network; its weights do not fit 'freed'"),
        ("models.cnn.arch=sasa", "'cnn' is a different network; its weights do not fit 'cnn-on'"),
        ("models.vit-on.heads=4", "'vit' is a different network; its weights do not fit 'vit-on'"),
        ("grid={lr: [0.001, 0.003]}", "models.cnn-on.init_from: a search trains many cells of 'cnn' at one n"),
        ("models.freed.init_from=5", "models.freed.init_from: Input should be a valid string (got 5)"),
        ("models.freed.init_form=cnn", "unknown key 'init_form' in models.freed; did you mean 'init_from'?"),
        ("models.freed.gat=2", "unknown key 'gat' in models.freed; did you mean 'gate'?"),
    ],
)
def test_a_wrong_start_is_refused_before_anything_is_trained(cell, override, said):
    with pytest.raises(ConfigError) as caught:
        cell("freed", override)
    assert said in str(caught.value)


def test_logistic_regression_begins_with_nothing(cell):
    with pytest.raises(ConfigError, match=r"models\.again\.init_from"):
        cell("again", "models.again={arch: linear, C: [1.0], init_from: linear}")


def test_an_export_says_which_cell_another_began_with(vitcnn, tmp_path):
    _, all_cells, paths = make_study(tmp_path, text=FAMILY, name="family")
    write(every(all_cells, lambda _: 0.5), paths)
    assert vitcnn("export", "family.yaml", "--csv", "all.csv")[0] == 0
    rows = {row["model"]: row for row in csv.DictReader((tmp_path / "all.csv").open())}
    starts = {name: row["init_from"] for name, row in rows.items()}
    assert starts == {name: rows[STARTS[name]]["id"] if name in STARTS else "" for name in rows}


def test_a_longer_cell_begins_with_the_longer_one_of_what_it_begins_with(study):
    def starts(*pair: str) -> dict[str, str | None]:
        mine = {c.title: c for c in cells(study(f"pair=[{', '.join(pair)}]", "budget_check={factor: 2}", text=FAMILY))}
        names = {c.id: title for title, c in mine.items()}
        return {title: names.get(c.init_from) for title, c in mine.items()}

    both = starts("cnn-on", "cnn")
    assert both["cnn-on-n200-s0"] == "cnn-n200-s0"
    assert both["cnn-on-n200-s0-long"] == "cnn-n200-s0-long"
    assert starts("cnn-on", "vit")["cnn-on-n200-s0-long"] == "cnn-n200-s0"  # which has no longer one
