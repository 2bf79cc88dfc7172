"""What weakens a verdict is said beside it."""

import re

import pytest
from planted import said, wobbly
from synthetic import every, make_study

from vitcnn.analysis.budget_check import BudgetUnchecked
from vitcnn.analysis.caveats import OtherRecords, above_baseline
from vitcnn.analysis.results import Results
from vitcnn.analysis.verdict import verdict
from vitcnn.data.sources.registry import parse_dataset


def test_each_end_without_a_finished_budget_check_is_named(tmp_path):
    study, all_cells, _ = make_study(tmp_path, "budget_check={factor: 2, seeds: [0, 1]}")
    made = every([c for c in all_cells if c.role == "main" or c.n == 50], lambda c: 0.5 + 0.01 * c.seed)
    assert BudgetUnchecked((1000,)) in verdict(Results.of(study, all_cells, made)).caveats


def test_a_model_finished_beyond_the_baseline_is_not_known_to_be_above_it(tmp_path):
    study, all_cells, _ = make_study(tmp_path, "models=[vit, cnn, linear]")
    levels = {"linear": 0.5}
    all_of_it = every(all_cells, lambda c: levels.get(c.model, 0.8))
    assert above_baseline(Results.of(study, all_cells, all_of_it))
    short = [r for r in all_of_it if not (r.cell.model == "linear" and r.cell.n > 50)]
    assert not above_baseline(Results.of(study, all_cells, short))


def caveats(folder, *overrides: str, accuracy=wobbly, lost=lambda c: False, change=lambda r: r, pair=None) -> str:
    study, all_cells, _ = make_study(folder, *overrides)
    records = [change(r) for r in every(all_cells, accuracy) if not lost(r.cell)]
    return said(verdict(Results.of(study, all_cells, records, parse_dataset("digits").info), pair))


CHECK = "budget_check={factor: 3, seeds: [0]}"


def test_a_loser_to_the_linear_baseline_weakens_the_verdict_and_another_model_does_not(tmp_path):
    low = {name: caveats(tmp_path, accuracy=lambda c, x=name: 0.3 if c.model == x else wobbly(c)) for name in (
        "vit", "cnn", "swin")}  # fmt: skip
    assert "vit is not above the linear baseline at n = 1,000: 30.0% against" in low["vit"]
    assert "cnn is not above the linear baseline at n = 1,000" in low["cnn"]
    assert "not above" not in low["swin"] + caveats(tmp_path)


def test_losers_to_the_baseline_on_the_least_data_are_named_though_they_are_above_it_on_the_most(tmp_path):
    def few(**low):
        return lambda c: low.get(c.model, wobbly(c)) if c.n == 50 else wobbly(c)

    text = caveats(tmp_path, accuracy=few(vit=0.3, cnn=0.4, local=0.2))
    assert "At n = 50 cnn (40.0%) and vit (30.0%) are not above the linear baseline (" in text
    assert "At n = 50 vit (30.0%) is not above the linear baseline (" in caveats(tmp_path, accuracy=few(vit=0.3))
    assert "not above" not in caveats(tmp_path, accuracy=few(local=0.3))
    one_size = caveats(tmp_path, "sizes=[50]", accuracy=few(vit=0.3))
    assert one_size.count("not above") == 1  # where the only size is the largest, it is said of that


def test_the_baseline_of_a_model_whose_name_begins_alike_is_another_matter(tmp_path):
    found = caveats(tmp_path, "models={vit: {}, vit big: {arch: vit, depth: 2}, cnn: {}, linear: {}}",
                    accuracy=lambda c: 0.3 if c.model == "vit big" else wobbly(c))  # fmt: skip
    assert "not above" not in found


def test_a_network_that_has_hardly_learnt_anything_is_named_with_what_chance_is(tmp_path):
    def few(low):
        return lambda c: low.get(c.model, 0.6) if c.n == 50 else wobbly(c)

    text = caveats(tmp_path, accuracy=few({"vit": 0.106, "cnn": 0.09, "swin": 0.1}))
    assert "At n = 50 cnn (9.0%) and vit (10.6%) are close to chance (10.0%). The gap there says" in text
    text = caveats(tmp_path, accuracy=few({"vit": 0.1}))
    assert "At n = 50 vit (10.0%) is close to chance" in text
    assert "close to" not in caveats(tmp_path, accuracy=few({"vit": 0.11, "swin": 0.1})) + caveats(tmp_path)


def test_a_study_without_a_baseline_says_so(tmp_path):
    assert "no linear baseline" in caveats(tmp_path, "models=[vit, cnn]")
    assert "no linear baseline" not in caveats(tmp_path)


def longer(cell) -> float:
    return wobbly(cell) + (0.1 if cell.role == "budget-check" and (cell.model, cell.n) == ("vit", 1000) else 0)


@pytest.mark.parametrize("pair", [None, ("cnn", "vit"), ("vit", "cnn")])
def test_a_gap_that_more_training_moves_is_budget_limited_whichever_way_round_the_pair_stands(tmp_path, pair):
    text = caveats(tmp_path, CHECK, accuracy=longer, pair=pair)
    assert "No budget check" not in text
    (line,) = [line for line in text.splitlines() if line.startswith("Budget-limited")]
    assert line.startswith("Budget-limited at n = 1,000: with 3× the training the gap goes from ")
    before, after = map(float, re.findall(r"([+-]\d+\.\d) (?:to|points)", line))
    assert abs(after - before) == pytest.approx(10, abs=0.3)
    assert (before > 0) == (pair != ("vit", "cnn"))


def test_a_gap_that_more_training_leaves_alone_is_not(tmp_path):
    text = caveats(tmp_path, CHECK)
    assert "Budget-limited" not in text
    assert "budget check" not in text.lower()


@pytest.mark.parametrize("pair", [("cnn", "swin"), ("swin", "vit")])
def test_another_pairs_budget_was_not_checked(tmp_path, pair):
    assert "No budget check of this pair" in caveats(tmp_path, CHECK, accuracy=longer, pair=pair)


def test_a_study_without_a_budget_check_or_with_an_unfinished_one_says_so(tmp_path):
    assert "No budget check" in caveats(tmp_path)
    assert "budget check" in caveats(tmp_path, CHECK, lost=lambda c: c.role == "budget-check").lower()


def test_no_search_is_said_and_a_search_is_not(tmp_path):
    assert "The recipes do not come from a search." in caveats(tmp_path)
    path = tmp_path / "found.yaml"
    path.write_text("search: trial\nmodels: {vit: {50: {lr: 0.01}}, cnn: {50: {lr: 0.01}}, swin: {50: {lr: 0.01}}}")
    assert "a search" not in caveats(tmp_path, f"recipes={path}")


def test_copies_of_test_images_are_said_where_there_are_any(tmp_path):
    def leaks(copies: int):
        return lambda r: r.model_copy(update={"data": {"test_in_train": copies, "other_label": 1}})

    text = caveats(tmp_path, change=leaks(7))
    assert "7 of the 500 test images are exact copies" in text
    assert "exact cop" not in caveats(tmp_path, change=leaks(0)) + caveats(tmp_path)


def test_a_largest_size_that_is_the_whole_pool_is_said(tmp_path):
    about = parse_dataset("digits").info
    pool = about.train - about.validation
    assert f"At n = {pool:,} every seed trains on the same images" in caveats(tmp_path, f"sizes=[50, {pool}]")
    assert "same images" not in caveats(tmp_path, f"sizes=[50, {pool - 1}]")


def test_records_of_another_recipe_in_the_folder_are_counted_and_left_out(tmp_path):
    study, all_cells, _ = make_study(tmp_path)
    _, others, _ = make_study(tmp_path, "recipe.lr=0.02", "models=[vit]")
    mine, strangers = every(all_cells, wobbly), every(others, lambda _: 0.1)
    clean, mixed = (verdict(Results.of(study, all_cells, r)) for r in (mine, strangers + mine))
    assert mixed.claims == clean.claims
    assert set(mixed.caveats) - set(clean.caveats) == {OtherRecords(9)}
