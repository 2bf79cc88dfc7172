"""Several budgets in one study, and models that are not permuted: which cells there are."""

import pytest
from synthetic import BUDGETS, SEVERAL, every, make_study

from vitcnn.analysis.results import Results
from vitcnn.errors import ConfigError
from vitcnn.study.matrix import describe_budgets

# ---- cells ----


def test_the_cells_are_those_of_one_study_a_budget_with_the_baseline_once(tmp_path):
    study, all_cells, _ = make_study(tmp_path, text=SEVERAL, name="budgets")
    single = [make_study(tmp_path, f"budget={{images_seen: {b}}}", text=SEVERAL, name="budgets")[1] for b in BUDGETS]
    assert [cell.id for cell in all_cells] != []
    assert {cell.id for cell in all_cells} == {cell.id for some in single for cell in some}
    assert len(all_cells) == len({cell.title for cell in all_cells}) == 3 * 5 * (2 * 3 + 1)
    assert describe_budgets(all_cells).count("images seen") == 3
    assert study.budget[0].images_seen == BUDGETS[0]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["budget=[{images_seen: 1280}, {epochs: 3}]"], "of images_seen or of epochs, not of both"),
        (["budget=[{images_seen: 1280}, {images_seen: 1280}]"], "the same budget stands there more than once"),
        (["budget=[]"], "budget: give at least one"),
        (["budget_check={factor: 2}"], "a list of budgets is itself the check of the budget"),
        (["grid={lr: [0.001, 0.003]}"], r"a search \(`grid`\) takes one budget"),
        (["budget=[{images_seen: 1281}, {images_seen: 1300}]"], "are the same 21 steps of vit at n = 50"),
    ],
)
def test_a_wrong_list_of_budgets_is_refused_with_its_reason(tmp_path, overrides, message):
    with pytest.raises(ConfigError, match=message):
        make_study(tmp_path, *overrides, text=SEVERAL, name="budgets")


def test_a_model_goes_on_from_the_cell_of_its_own_budget(tmp_path):
    _, all_cells, _ = make_study(
        tmp_path, "models=[vit, cnn, {more: {arch: vit, init_from: vit}}]", text=SEVERAL, name="b"
    )
    by_id = {cell.id: cell for cell in all_cells}
    for cell in (c for c in all_cells if c.model == "more"):
        assert (by_id[cell.init_from].budget, by_id[cell.init_from].seed) == (cell.budget, cell.seed)


# ---- permuted: false ----


def test_a_model_that_is_not_permuted_is_trained_once_as_in_a_study_without_permutation(tmp_path):
    settings = "permutation=[{patches: 0}, {patches: 1}]"
    study, all_cells, _ = make_study(tmp_path, settings, "models.vit.permuted=false", text=SEVERAL, name="budgets")
    _, plain, _ = make_study(tmp_path, text=SEVERAL, name="budgets")
    ids = [{cell.id for cell in some if cell.model == "vit"} for some in (all_cells, plain)]
    assert ids[0] == ids[1]
    results = Results.of(study, all_cells, every(all_cells, lambda _: 0.5))
    one, other = results.settings()
    assert one.at_largest_budget.at("vit", 50) == other.at_largest_budget.at("vit", 50) != {}
    assert str(other.setting) == "all patches permuted"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["models.vit.permuted=false"], "models.vit.permuted: the study has no `permutation`"),
        (["permutation={patches: 1}", "models={vit: {permuted: false}}"], "no model is trained under"),
        (["permutation={patches: 1}", "models.vit.permuted=perhaps"], "models.vit.permuted: "),
        (["permutation={patches: 1}", "models.vit.permutd=1"], "did you mean 'permuted'"),
    ],
)  # fmt: skip
def test_permuted_is_refused_where_it_means_nothing(tmp_path, overrides, message):
    with pytest.raises(ConfigError, match=message):
        make_study(tmp_path, "models={vit: {}, cnn: {}}", *overrides, text=SEVERAL, name="budgets")
