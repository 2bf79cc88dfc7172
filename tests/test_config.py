"""A mistake in a study raises ConfigError with a sentence that says where it is and what to change."""

import re

import pytest

from vitcnn.data.sources.registry import parse_dataset
from vitcnn.errors import ConfigError
from vitcnn.models.registry import ARCHS
from vitcnn.study.load import load_study
from vitcnn.study.matrix import cells

RECIPES = """
search: digits-search
models:
  vit: {100: {lr: 0.01}, 1000: {lr: 0.003}}
  cnn: {100: {lr: 0.02}}
"""


def message(make, *overrides: str, **how: str) -> str:
    """What a study says that must not load, or that loads and must not become cells."""
    with pytest.raises(ConfigError) as caught:
        cells(make(*overrides, **how))
    return str(caught.value)


def recipes_of(study, model: str) -> dict[int, object]:
    return {cell.n: cell.recipe for cell in cells(study) if cell.model == model}


# ---- unknown names ----


@pytest.mark.parametrize(
    ("override", "where", "wrong", "right"),
    [
        ("seedz=3", "", "seedz", "seeds"),
        ("recipe.lrr=1", "recipe", "lrr", "lr"),
        ("budget.image_seen=5", "budget", "image_seen", "images_seen"),
        ("budget_check.factr=3", "budget_check", "factr", "factor"),
        ("models.vit.widht=48", "vit", "widht", "width"),
        ("models.cnn.stem_strid=1", "cnn", "stem_strid", "stem_stride"),
        ("grid.weight_decy=[0.1]", "grid", "weight_decy", "weight_decay"),
    ],
)
def test_an_unknown_key_names_the_nearest_one(study, override, where, wrong, right):
    said = message(study, override)
    assert repr(wrong) in said
    assert f"did you mean {right!r}?" in said
    assert where in said
    assert "small.yaml" in said
    assert "chosen" not in said  # not for a person to fill in


@pytest.mark.parametrize("override", ["models=[vitt]", "models={big: {arch: vitt}}"])
def test_an_unknown_model_names_the_nearest_one(study, override):
    said = message(study, override)
    assert "unknown architecture 'vitt'; did you mean 'vit'?" in said
    assert said.endswith(f"known: {', '.join(sorted(ARCHS))}")


def test_an_unknown_data_set_names_the_nearest_one(study):
    with pytest.raises(ConfigError, match=r"unknown data set 'digit'; did you mean 'digits'.* known: .*fashion-mnist"):
        parse_dataset("digit")
    assert "did you mean 'digits'?" in message(study, "dataset=digit")


# ---- values ----


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("sizes=[50,200,50]", "sizes: 50 appears more than once"),
        ("seeds=[4,1,4]", "seeds: 4 appears more than once"),
        ("models=[vit,cnn,vit]", "models: vit appears more than once"),
        ("budget={}", "budget: give either images_seen or epochs"),
        ("budget={images_seen: 100, epochs: 2}", "budget: give either images_seen or epochs"),
        ("sizes=[5]", "sizes: 5 images are fewer than one for each of the 10 classes"),
        ("sizes=[1298]", "sizes: 1,298 images requested, 1,000 available"),
        ("sizes=[1001]", "1,297 training images, 297 of them held out for validation"),
        ("sizes=[0]", "sizes.0: Input should be greater than 0 (got 0)"),
        ("sizes=[]", "sizes: give at least one"),
        ("seeds=0", "seeds: give a list of seeds, or their number: 1 to 10,000, not 0"),
        ("validation=1297", "validation: 1,297 of 1,297 images leave none to train on"),
        ("validation=9", "validation: 9 images are fewer than the 10 classes"),
        ("recipe.augment=flip", "'flip': a mirrored image of digits is not of the same class"),
        ("recipe.augment=shift:1+flip", "a mirrored image of digits is not of the same class"),
        ("recipe.augment=rotate", "recipe.augment: 'rotate' is not a valid augmentation; known: basic, cutmix:A,"),
        ("recipe.augment=strnog", "'strnog' is not a valid augmentation; did you mean 'strong'?"),
        ("recipe.augment=shift:0", "'shift:0' is not a valid augmentation"),
        ("recipe.lr=fast", "recipe.lr: Input should be a valid number"),
        ("recipe.lr=-1", "recipe.lr: Input should be greater than 0 (got -1)"),
        ("models.linear.recipe.lr=0.1", "models.linear.recipe: logistic regression has no recipe"),
        ("models.vit.recipe.warmpu=0.2", "model 'vit', recipe warmpu: unknown recipe field 'warmpu'; did you mean"),
        ("chosen={}", "'chosen' cannot be set; it is filled in from the file that `recipes` names"),
    ],
)
def test_a_wrong_value_is_refused_with_where_and_why(study, override, said):
    assert said in message(study, override)


def test_the_largest_size_that_fits_beside_validation_is_accepted(study):
    assert max(cell.n for cell in cells(study("sizes=[10,1000]"))) == 1000
    assert max(cell.n for cell in cells(study("sizes=[1287]", "validation=10"))) == 1287


def test_a_budget_check_needs_both_of_its_pair(study):
    said = message(study, "budget_check={}", "models={vit: {}, cnn2: {arch: cnn}}")
    assert "pair: no model is called 'cnn'; did you mean 'cnn2'?" in said


@pytest.mark.parametrize("name", ["../elsewhere", "a//b", "a/../b", "a/", "/etc", "..", ".hidden", "a\\b", ""])
def test_a_name_that_could_leave_the_results_folder_is_refused(study, name):
    assert "name: not a valid name: use letters, digits" in message(study, f"name='{name}'")


def test_a_study_is_called_like_its_file_unless_it_says_otherwise(study, tmp_path):
    assert study(name="digits-main.yaml").name == "digits-main"
    assert study(text="name: other" + (tmp_path / "digits-main.yaml").read_text()).name == "other"
    assert study("name=another").name == "another"


def test_a_number_of_seeds_counts_from_zero_and_a_list_is_itself_sorted(study):
    assert study("seeds=3").seeds == (0, 1, 2)
    assert study("seeds=[7,3]").seeds == (3, 7)


# ---- the file ----


@pytest.mark.parametrize(("text", "found"), [("- dataset\n- sizes", "list"), ("", "NoneType"), ("digits", "str")])
def test_yaml_that_is_no_mapping_is_refused(study, text, found):
    assert f"small.yaml: expected a mapping of keys to values, found {found}" in message(study, text=text)


def test_broken_yaml_is_refused_with_its_line(study):
    assert re.search(r"small\.yaml: not valid YAML:.*line 2", message(study, text="dataset: digits\nsizes: [1"), re.S)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: No such file"):
        load_study(tmp_path / "nowhere.yaml")


# ---- overrides ----


def test_overrides_change_nested_keys_and_leave_their_neighbours(study):
    loaded = study("recipe.lr=0.01", "recipe.batch_size=64", "budget={epochs: 2}", "sizes=[20]")
    assert (loaded.recipe.lr, loaded.recipe.batch_size) == (0.01, 64)
    assert (loaded.budget[0].epochs, loaded.budget[0].images_seen, loaded.sizes) == (2, None, (20,))
    assert loaded.seeds == study().seeds


def test_an_override_reaches_into_a_list_of_models(study):
    loaded = study("models.vit.width=48", "models.vit.recipe.lr=0.002")
    assert [e.name for e in loaded.models] == ["vit", "cnn", "linear"]
    assert loaded.models[0].arch.width == 48
    assert {recipe.lr for recipe in recipes_of(loaded, "vit").values()} == {0.002}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("recipe.lr", "'recipe.lr' is not a valid override; write key=value"),
        ("=3", "'=3' is not a valid override"),
        ("dataset.name=3", "'dataset' has no keys"),
        ("recipe.lr=[1", "'recipe.lr=[1': not valid YAML"),
    ],
)
def test_a_malformed_override_is_refused(study, override, said):
    assert said in message(study, override)


def test_1e_3_which_yaml_reads_as_a_token_becomes_a_number(study):
    text = "dataset: digits\nsizes: [50]\nseeds: 1\nmodels: [vit]\nbudget: {epochs: 1}\nrecipe: {lr: 1e-3}"
    assert recipes_of(study(text=text), "vit")[50].lr == 0.001
    assert recipes_of(study("recipe.weight_decay=1e-2"), "vit")[50].weight_decay == 0.01


# ---- recipes found by a search ----


def test_a_missing_recipes_file_is_named_with_the_command_that_writes_it(study):
    said = message(study, "recipes=nowhere.yaml")
    assert "nowhere.yaml: No such file" in said
    assert "vitcnn select" in said


@pytest.mark.parametrize("text", ["", "models: {}", "[1", "- vit"])
def test_another_file_in_place_of_recipes_is_refused(study, tmp_path, text):
    (tmp_path / "found.yaml").write_text(text)
    assert "not a file written by `vitcnn select`" in message(study, "recipes=found.yaml")


def test_recipes_are_those_of_the_size_nearest_in_log_n(study, tmp_path):
    """√(100 · 1000) ≈ 316 is the middle: 320 belongs to 1000, though 100 is nearer on a straight ruler."""
    (tmp_path / "found.yaml").write_text(RECIPES)
    loaded = study("recipes=found.yaml", "sizes=[10,100,310,320,1000]", "recipe.batch_size=32")
    assert loaded.search == "digits-search"
    found = recipes_of(loaded, "vit")
    assert {n: recipe.lr for n, recipe in found.items()} == {10: 0.01, 100: 0.01, 310: 0.01, 320: 0.003, 1000: 0.003}
    assert {recipe.batch_size for recipe in found.values()} == {32}
    assert {recipe.lr for recipe in recipes_of(loaded, "cnn").values()} == {0.02}


def test_recipes_of_several_searches_serve_the_sizes_that_each_was_made_at(study, tmp_path):
    (tmp_path / "little.yaml").write_text("search: little\nmodels: {vit: {100: {lr: 0.01}}, cnn: {100: {lr: 0.02}}}")
    (tmp_path / "much.yaml").write_text("search: much\nmodels: {vit: {1000: {lr: 0.003}}, cnn: {900: {lr: 0.03}}}")
    loaded = study("recipes=[little.yaml, much.yaml]", "sizes=[50, 100, 1000]")
    assert loaded.search == "little, much"
    assert {n: recipe.lr for n, recipe in recipes_of(loaded, "vit").items()} == {50: 0.01, 100: 0.01, 1000: 0.003}
    assert {n: recipe.lr for n, recipe in recipes_of(loaded, "cnn").items()} == {50: 0.02, 100: 0.02, 1000: 0.03}
    (tmp_path / "much.yaml").write_text("search: much\nmodels: {vit: {100: {lr: 0.003}}}")
    said = message(study, "recipes=[little.yaml, much.yaml]")
    assert "much.yaml: another of these files also has 'vit' at n = 100" in said
    assert "recipes" in message(study, "recipes=[little.yaml, 3]")
    assert recipes_of(study("recipes=[]"), "vit")


def test_a_cell_takes_the_recipe_found_with_its_permutation_then_at_the_nearest_budget(study, tmp_path):
    found = "search: s\n%s\nmodels: {vit: {100: {lr: %s}, 1000: {lr: %s}}, cnn: {100: {lr: %s}, 1000: {lr: %s}}}"
    short, long, moved = "budget: {images_seen: 1000}", "budget: {images_seen: 9000}", "permutation: {patches: 1}"
    (tmp_path / "short.yaml").write_text(found % (short, 0.1, 0.2, 0.3, 0.4))
    (tmp_path / "long.yaml").write_text(f"search: l\n{long}\nmodels: {{cnn: {{1000: {{lr: 0.5}}}}}}")
    (tmp_path / "moved.yaml").write_text(f"search: m\n{short}\n{moved}\nmodels: {{cnn: {{100: {{lr: 0.6}}}}}}")
    loaded = study(
        "recipes=[short.yaml, long.yaml, moved.yaml]",
        "sizes=[100, 1000]",
        "budget=[{images_seen: 2000}, {images_seen: 4000}]",
        "permutation=[{patches: 0}, {patches: 1}]",
        "models={vit: {permuted: false}, cnn: {}}",
    )
    rates = {}
    for cell in cells(loaded):
        moved = bool(cell.permutation and cell.permutation.patches)
        rates.setdefault((cell.model, cell.n, moved), {})[cell.budget.images_seen] = cell.recipe.lr
    assert rates == {
        ("vit", 100, False): {2000: 0.1, 4000: 0.1},
        ("vit", 1000, False): {2000: 0.2, 4000: 0.2},
        ("cnn", 100, False): {2000: 0.3, 4000: 0.3},  # the longer search was not made at this size
        ("cnn", 1000, False): {2000: 0.4, 4000: 0.5},
        ("cnn", 100, True): {2000: 0.6, 4000: 0.6},
        ("cnn", 1000, True): {2000: 0.6, 4000: 0.6},
    }


def test_a_size_in_the_middle_of_two_takes_the_smaller_ones_recipe_whatever_their_order(study, tmp_path):
    text = "search: s\nmodels: {vit: {%s}}"
    for sizes in ((100, 10_000), (10_000, 100), (100, 900), (900, 100)):
        recipes = ", ".join(f"{n}: {{lr: {0.01 if n == 100 else 0.003}}}" for n in sizes)
        (tmp_path / "found.yaml").write_text(text % recipes)
        middle = round((sizes[0] * sizes[1]) ** 0.5)
        loaded = study("recipes=found.yaml", f"sizes=[{middle}]", "models=[vit]")
        assert {n: recipe.lr for n, recipe in recipes_of(loaded, "vit").items()} == {middle: 0.01}


def test_a_recipe_that_a_found_one_would_silently_replace_is_refused(study, tmp_path):
    (tmp_path / "found.yaml").write_text(RECIPES)
    said = message(study, "recipes=found.yaml", "recipe.lr=0.5")
    assert "recipe.lr: the study sets 0.5, but found.yaml gives 'vit' 0.01; set models.vit.recipe.lr" in said


def test_a_models_own_recipe_beats_the_found_one_and_other_names_take_their_models(study, tmp_path):
    (tmp_path / "found.yaml").write_text(RECIPES)
    loaded = study("recipes=found.yaml", "models={vit: {recipe: {lr: 0.5}}, deep: {arch: vit, depth: 8}}")
    assert {recipe.lr for recipe in recipes_of(loaded, "vit").values()} == {0.5}
    assert {recipe.lr for recipe in recipes_of(loaded, "deep").values()} == {0.01}


def test_a_model_without_a_found_recipe_is_named(study, tmp_path):
    (tmp_path / "found.yaml").write_text(RECIPES)
    said = message(study, "recipes=found.yaml", "models=[vit,swin]")
    assert "recipes: found.yaml has none for 'swin'" in said
