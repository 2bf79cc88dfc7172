"""A recipe is chosen on validation and on nothing else, among all trials or not at all."""

import math

import numpy as np
import pytest
from synthetic import SEARCH, every, make_study, record, rows, write

from vitcnn.analysis.select import RULE, best, choose, edges, gains, recipes_yaml, trials
from vitcnn.errors import ConfigError
from vitcnn.report.report import report_text
from vitcnn.store.records import Score
from vitcnn.study import yaml_file
from vitcnn.study.load import load_study
from vitcnn.study.matrix import cells
from vitcnn.study.recipe import Recipe


def searched(tmp_path, validation, *overrides: str, nll=lambda _: 1.0):
    """A search, its cells, and their scores on validation: `validation(cell)` and `nll(cell)`."""
    study, all_cells, _ = make_study(tmp_path, *overrides, text=SEARCH, name="search")
    rng = np.random.default_rng(0)
    finished = [record(c, 0.5, validation=validation(c), nll=nll(c), rng=rng) for c in all_cells]
    return study, all_cells, {r.id: r.validation for r in finished}


def likes(lr: float, augment: str = "none"):
    """A validation accuracy that is highest at one point of the grid."""
    return lambda c: 0.9 - 0.1 * abs(math.log10(c.recipe.lr / lr)) - 0.05 * (c.recipe.augment != augment)


def scores(values: dict[str, tuple[float, float]], all_cells) -> dict[str, Score]:
    return {c.id: Score(accuracy=values[c.variant][0], nll=values[c.variant][1], images=297) for c in all_cells}


def test_the_best_on_validation_is_chosen_for_each_model_and_size(tmp_path):
    def validation(cell):
        return likes(0.003 if cell.model == "vit" else 0.001, "shift:1" if cell.n == 50 else "none")(cell)

    choice = choose(*searched(tmp_path, validation))
    assert choice["models"] == {
        "vit": {50: {"lr": 0.003, "augment": "shift:1"}, 1000: {"lr": 0.003, "augment": "none"}},
        "cnn": {50: {"lr": 0.001, "augment": "shift:1"}, 1000: {"lr": 0.001, "augment": "none"}},
    }
    assert (choice["search"], choice["trials"], choice["seeds"]) == ("search", 6, [0])


@pytest.mark.parametrize(
    ("validation", "lower", "others"), [(lambda _: 0.8, 0.4, 0.5), (likes(0.003), 9.0, 0.1)], ids=["tie", "better"]
)
def test_a_tie_goes_to_the_lower_loss_and_no_loss_outweighs_accuracy(tmp_path, validation, lower, others):
    choice = choose(*searched(tmp_path, validation, nll=lambda c: lower if c.recipe.lr == 0.003 else others))
    assert {choice["models"][name][n]["lr"] for name in ("vit", "cnn") for n in (50, 1000)} == {0.003}


def test_the_mean_over_seeds_decides_and_not_the_luckiest_seed(tmp_path):
    def validation(cell):
        return 0.7 if cell.recipe.lr == 0.003 else (0.95 if cell.seed == 0 else 0.2)

    assert choose(*searched(tmp_path, validation, "seeds=3"))["models"]["vit"][50]["lr"] == 0.003


def test_the_same_counts_of_right_images_are_a_tie_in_whatever_order_the_seeds_come(tmp_path):
    right = {0.001: (0.1, 0.2, 0.3), 0.003: (0.3, 0.2, 0.1), 0.01: (0.2, 0.3, 0.1)}  # sums differ by rounding alone
    _, all_cells, _ = make_study(tmp_path, "seeds=3", "grid={lr: [0.001, 0.003, 0.01]}", text=SEARCH)
    losses = {0.001: 0.9, 0.003: 0.5, 0.01: 0.7}
    given = {c.id: Score(accuracy=right[c.recipe.lr][c.seed], nll=losses[c.recipe.lr], images=10) for c in all_cells}
    assert {t.recipe.lr for t in best(trials(all_cells, given)).values()} == {0.003}


def test_test_results_are_never_looked_at(tmp_path, vitcnn):
    study, all_cells, paths = make_study(tmp_path, text=SEARCH, name="search")
    rng = np.random.default_rng(0)
    for test in (lambda c: 1 - likes(0.003)(c), likes(0.003), lambda _: 0.0):
        write([record(c, test(c), validation=likes(0.003)(c), nll=1.0, rng=rng) for c in all_cells], paths)
        assert vitcnn("select", "search.yaml")[0] == 0
        chosen = yaml_file.parse((paths.report / "recipes.yaml").read_text())["models"]
        assert chosen["vit"] == {n: {"lr": 0.003, "augment": "none"} for n in study.sizes}


def test_an_unfinished_search_is_refused_with_the_missing_cell(tmp_path):
    study, all_cells, validation = searched(tmp_path, likes(0.003))
    del validation[all_cells[3].id]
    with pytest.raises(ConfigError, match=f"not finished: 1 .*{all_cells[3].title}"):
        choose(study, all_cells, validation)


def test_a_broken_record_is_named_and_not_passed_over(tmp_path, vitcnn):
    _, all_cells, paths = make_study(tmp_path, text=SEARCH, name="search")
    rng = np.random.default_rng(0)
    write([record(c, 0.5, rng=rng) for c in all_cells], paths)
    paths.record(all_cells[3].id).write_text("{}")
    code, _, err = vitcnn("select", "search.yaml")
    assert code == 2
    assert all_cells[3].id in err
    assert not (paths.report / "recipes.yaml").exists()


def test_a_linear_model_in_a_search_is_left_alone(tmp_path):
    study, all_cells, validation = searched(tmp_path, lambda c: 0.9 if c.recipe is None else likes(0.003)(c),
                                        "models=[vit, cnn, linear]")  # fmt: skip
    assert set(choose(study, all_cells, validation)["models"]) == {"vit", "cnn"}


def test_what_has_no_grid_or_trains_nothing_is_no_search(tmp_path):
    with pytest.raises(ConfigError, match="trio is not a search"):
        choose(*make_study(tmp_path)[:2], {})
    with pytest.raises(ConfigError):
        choose(*searched(tmp_path, lambda _: 0.5, "models=[linear]"))


# ---- the edges of the grid ----


@pytest.mark.parametrize("lr", [0.001, 0.01])
def test_a_choice_on_the_grids_edge_is_named(tmp_path, lr):
    found = choose(*searched(tmp_path, likes(lr, "shift:1")))["edges"]
    assert len(found) == 4
    assert found[0].startswith(f"vit at n = 50 chose lr = {lr:g}, the edge of the grid: +")
    assert "(standard error 1.7); widen it" in found[0]


def test_a_choice_inside_the_grid_and_of_tokens_has_no_edge(tmp_path):
    for augment in ("none", "shift:1"):
        assert choose(*searched(tmp_path, likes(0.003, augment)))["edges"] == []


def test_numbers_that_yaml_reads_as_text_have_edges_too(tmp_path):
    study, all_cells, validation = searched(tmp_path, likes(0.02), 'grid={lr: ["1e-3", "1e-2", "2e-2"]}')
    assert study.grid[0]["lr"] == ["1e-3", "1e-2", "2e-2"]
    assert len(choose(study, all_cells, validation)["edges"]) == 4


def test_an_edge_is_that_of_what_was_tried_with_the_choices_other_fields(tmp_path):
    grids = "grid=[{lr: [0.001, 0.003, 0.01, 0.03], augment: [none]}, {lr: [0.003, 0.01], augment: ['shift:1']}]"
    found = choose(*searched(tmp_path, likes(0.01, "shift:1"), grids))["edges"]
    assert found[0].startswith("vit at n = 50 chose lr = 0.01, the edge of the grid: nothing was tried inside it")
    assert choose(*searched(tmp_path, likes(0.01, "none"), grids))["edges"] == []


def test_an_edge_inside_which_all_trials_failed_says_so(tmp_path):
    study, all_cells, validation = searched(tmp_path, likes(0.01, "none"), "grid={lr: [0.001, 0.003, 0.01]}")
    failed = {cell.id for cell in all_cells if cell.recipe.lr == 0.003}
    left = {cell_id: score for cell_id, score in validation.items() if cell_id not in failed}
    found = choose(study, all_cells, left, dict.fromkeys(failed, "the loss is nan"))["edges"]
    assert found[0].startswith("vit at n = 50 chose lr = 0.01, the edge of the grid: all trials inside it failed (")


def test_a_model_with_a_value_of_its_own_is_judged_by_what_was_tried_for_it(tmp_path):
    two = "grid=[{lr: [0.001, 0.003]}, {augment: ['shift:1']}]"
    found = choose(*searched(tmp_path, likes(0.003, "none"), two, "models={vit: {recipe: {lr: 0.002}}, cnn: {}}"))
    assert not [line for line in found["edges"] if line.startswith("cnn")]


def test_a_single_value_has_no_edge(tmp_path):
    study, all_cells, _ = make_study(tmp_path, "grid={lr: [0.003], label_smoothing: [0, 0.1, 0.2]}", text=SEARCH)
    smooth = {0: 0.7, 0.1: 0.9, 0.2: 0.8}
    given = {c.id: Score(accuracy=smooth[c.recipe.label_smoothing], nll=1, images=297) for c in all_cells}
    assert edges(study, trials(all_cells, given)) == []


# ---- several grids, and what a search was good for ----

TWO = "grid=[{lr: [0.001, 0.003, 0.01], augment: [none, 'shift:1']}, {lr: [0.003], weight_decay: [0.5]}]"


def test_a_list_of_grids_has_the_points_of_each(tmp_path):
    def likes_decay(cell):
        return 0.95 if cell.model == "vit" and cell.recipe.weight_decay == 0.5 else likes(0.003)(cell)

    study, all_cells, validation = searched(tmp_path, likes_decay, TWO)
    choice = choose(study, all_cells, validation)
    assert choice["trials"] == 7
    assert len({cell.id for cell in all_cells}) == len(all_cells)
    assert choice["models"]["vit"][50] == {"lr": 0.003, "weight_decay": 0.5, "augment": "none"}
    assert choice["models"]["cnn"][50] == {"lr": 0.003, "weight_decay": 0.05, "augment": "none"}


def test_what_a_search_gained_is_told_for_each_model_size_and_field(tmp_path):
    study, all_cells, validation = searched(tmp_path, likes(0.01, "shift:1"), TWO)
    among = trials(all_cells, validation)
    found = gains(study, among)["vit", 50]
    assert found["lr"] == pytest.approx(0.1, abs=0.004)  # 0.01 instead of the first rate, 0.001
    assert found["augment"] == pytest.approx(0.05, abs=0.004)
    assert found["weight_decay"] == 0  # the choice has the recipe's own
    middle = np.median([likes(0.01, "shift:1")(c) for c in all_cells if (c.model, c.n) == ("vit", 50)])
    assert found["the median trial"] == pytest.approx(0.9 - middle, abs=0.004)


# ---- the file ----


def test_what_select_writes_is_what_a_study_trains_with_at_the_nearest_n(tmp_path):
    def validation(cell):
        return likes(0.01 if cell.n == 50 else 0.003, "shift:1" if cell.model == "vit" else "none")(cell)

    path = tmp_path / "recipes.yaml"
    path.write_text(recipes_yaml(choose(*searched(tmp_path, validation))))
    assert yaml_file.parse(path.read_text())["rule"] == RULE
    main = tmp_path / "main.yaml"
    main.write_text(
        "dataset: digits\nsizes: [60, 220, 230, 900]\nseeds: 2\nmodels: [vit, cnn, linear]\n"
        f"budget: {{images_seen: 1000}}\nrecipes: {path.name}\nrecipe: {{warmup: 0.2}}\n"
    )
    loaded = load_study(main)
    assert loaded.search == "search"
    got = {(c.model, c.n): c.recipe for c in cells(loaded)}
    for n, lr in {60: 0.01, 220: 0.01, 230: 0.003, 900: 0.003}.items():  # in log n the middle of 50 and 1000 is 224
        assert got["vit", n] == Recipe(lr=lr, augment="shift:1", warmup=0.2)
        assert got["cnn", n] == Recipe(lr=lr, warmup=0.2)
        assert got["linear", n] is None


def recipes(path, dataset: str = "digits", where: dict | None = None, **models) -> str:
    path.write_text(yaml_file.dump({"search": path.stem, "dataset": dataset, **(where or {}), "models": models}))
    return path.name


def report_of(tmp_path, *overrides: str) -> str:
    made, all_cells, paths = make_study(tmp_path, *overrides)
    write(every(all_cells, lambda _: 0.5), paths)
    return report_text(made, all_cells, paths)


def test_who_has_no_recipe_of_its_own_at_a_size_is_said_by_name(tmp_path):
    both = {50: {"lr": 0.01}, 200: {"lr": 0.003}, 1000: {"lr": 0.003}}
    file = recipes(tmp_path / "some.yaml", vit={50: {"lr": 0.01}}, cnn=both)
    text = report_of(tmp_path, f"recipes={file}", "models=[vit, cnn]")
    assert " The search was made at n = 50 for vit; at n = 50, 200, 1,000 for cnn. Other n use the nearest" in text
    file = recipes(tmp_path / "all.yaml", vit=both, cnn=both, mixer={7: {}})
    assert "Other n use the nearest" not in report_of(tmp_path, f"recipes={file}", "models=[vit, cnn]")


def test_recipes_that_depend_on_budget_or_permutation_stand_in_rows_of_their_own(tmp_path):
    moved = {"permutation": {"patches": 1}}
    files = [
        recipes(tmp_path / "short.yaml", where={"budget": {"images_seen": 640}}, cnn={50: {"lr": 0.01}}, vit={50: {}}),
        recipes(tmp_path / "long.yaml", where={"budget": {"images_seen": 6400}}, cnn={50: {"lr": 0.02}}),
        recipes(tmp_path / "moved.yaml", where=moved, cnn={50: {"lr": 0.03}}),
    ]
    text = report_of(
        tmp_path,
        f"recipes=[{', '.join(files)}]",
        "sizes=[50]",
        "models={vit: {permuted: false}, cnn: {}}",
        "budget=[{images_seen: 700}, {images_seen: 6400}]",
        "permutation=[{patches: 0}, {patches: 1}]",
    )
    short, long = "not permuted, 700 images seen", "not permuted, 6,400 images seen"
    permuted = "all patches permuted, 700 images seen; all patches permuted, 6,400 images seen"
    batch = "batch_size 64"
    assert rows(text, "Recipes") == [
        ["n", "trained", "vit", "cnn"],
        ["50", short, batch, f"lr 0.01, {batch}"],
        ["50", long, batch, f"lr 0.02, {batch}"],
        ["50", permuted, batch, f"lr 0.03, {batch}"],
    ]
    assert "trials: 640 images seen or 6,400 images seen. Each cell uses the recipe found at the nearest." in text


def test_a_rate_tried_alone_with_its_other_fields_is_no_edge_but_is_said(tmp_path):
    grid = "grid=[{lr: [0.001, 0.003, 0.01], augment: [none]}, {lr: [0.003], augment: ['shift:1']}]"
    study, all_cells, validation = searched(tmp_path, likes(0.003, "shift:1"), grid)
    found = edges(study, trials(all_cells, validation))
    assert found[0] == "vit at n = 50 chose lr = 0.003, the only one tried with its other fields"


@pytest.mark.parametrize("none", ["[]", "null"])
def test_no_recipes_are_no_search(tmp_path, none):
    text = report_of(tmp_path, f"recipes={none}", "models=[vit, cnn]")
    assert "The recipes do not come from a search." in text
    assert "Recipes are from the study file, not from a search." in text


def test_a_data_set_by_another_of_its_names_is_no_other_data_set(tmp_path):
    file = recipes(tmp_path / "r.yaml", "fractals:channels=3,noise=0.5", cnn={100: {}})
    main = tmp_path / "main.yaml"
    main.write_text(
        "dataset: 'fractals:noise=0.5,channels=3'\nsizes: [100]\nseeds: 1\nmodels: [cnn]\n"
        f"budget: {{images_seen: 100}}\nrecipes: {file}\n"
    )
    assert load_study(main).search == "r"
    assert load_study(main, ["dataset=digits"]).search == "r, made on fractals:channels=3,noise=0.5"
