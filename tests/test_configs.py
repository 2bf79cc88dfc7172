"""The studies in `configs/`: each is read, makes its cells and networks, and its committed records are its own."""

from functools import cache
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from vitcnn.data.sources.registry import parse_dataset
from vitcnn.models.profile import ModelProfile, profile
from vitcnn.models.registry import Arch
from vitcnn.store.paths import StudyPaths
from vitcnn.store.records import Record, read_records
from vitcnn.study.load import load_study
from vitcnn.study.matrix import cells
from vitcnn.study.schema import Study

HERE = Path(__file__).resolve().parents[1]
STUDIES = {
    path.relative_to(HERE / "configs").with_suffix("").as_posix(): path
    for path in sorted(HERE.glob("configs/*/*.yaml"))
}
HERE_TO_BUILD = [name for name in STUDIES if not name.startswith("imagenet/")]  # the others: folders of a user's own
IMAGENET = parse_dataset("cifar100").info.model_copy(
    update={"name": "folder:imagenet", "classes": 1000, "train": 1_281_167, "test": 50_000, "size": 224}
)
WITH_RECIPES = [name for name, path in STUDIES.items() if "\nrecipes:" in path.read_text(encoding="utf-8")]
WITH_RECORDS = [name for name in STUDIES if (HERE / f"results/{name}/records").exists()]


def loaded(name: str) -> Study:
    return load_study(STUDIES[name])


@cache
def records(name: str) -> list[Record]:
    found, wrong = read_records(StudyPaths(name, HERE / "results").records)
    assert not wrong
    return found


@cache
def counted(arch: str, dataset: str) -> ModelProfile:
    """`model`: its fields as JSON. Studies share most of their networks: each is built once."""
    return profile(TypeAdapter(Arch).validate_json(arch), parse_dataset(dataset).info)


def test_there_are_studies_searches_and_records():
    assert {"digits/reference", "fashion-mnist/reference", "cifar10/reference", "fractals/million"} <= set(WITH_RECORDS)
    assert any(loaded(name).grid for name in STUDIES)
    assert {name for name in STUDIES if loaded(name).recipes} == set(WITH_RECIPES) != set()


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_is_read_and_makes_a_cell_for_every_model_size_and_seed(name):
    study = loaded(name)
    made = cells(study, None if name in HERE_TO_BUILD else IMAGENET)
    assert study.name == name
    assert f"vitcnn run configs/{name}.yaml" in STUDIES[name].read_text(encoding="utf-8").splitlines()[0]
    paths = {(e.name, n, seed) for e in study.models for n in study.sizes for seed in study.seeds}
    assert {(cell.model, cell.n, cell.seed) for cell in made} == paths
    assert all(cell.steps for cell in made if cell.recipe)
    assert study.grid or set(study.pair) <= {e.name for e in study.models}


@pytest.mark.parametrize("name", HERE_TO_BUILD)
def test_every_models_network_is_built_and_counted_and_is_that_of_its_records(name):
    study, mine = loaded(name), records(name)
    for model in study.models:
        found = counted(model.arch.model_dump_json(), study.dataset)
        assert found.parameters > 0, model.name
        assert found.macs > 0, model.name
        costs = {(r.cost.parameters, r.cost.macs, r.input.image_size) for r in mine if r.cell.model == model.name}
        assert costs <= {(found.parameters, found.macs, found.input.image_size)}, model.name


@pytest.mark.parametrize("name", WITH_RECIPES)
def test_a_study_that_names_recipes_has_those_of_its_search_for_every_model(name):
    study = loaded(name)
    searches = [loaded(search) for search in study.search.split(", ")]
    files = [(STUDIES[name].parent / file).resolve() for file in study.recipes]
    assert files == [HERE / f"results/{search.name}/recipes.yaml" for search in searches]
    assert all(search.grid and search.dataset == study.dataset for search in searches)
    for model in study.models:
        if model.arch.name != "linear":
            found = study.found(model)
            mine = [s for s in searches if {m.name for m in s.models} & {model.name, model.arch.name}]
            expected = [(n, s.budget[0], next(iter(s.permutation), None)) for s in mine for n in s.sizes]
            assert {(f.n, f.budget, f.permutation) for f in found} == set(expected), model.name
            assert len(found) == len(expected)
            for search in mine:
                here = [f.recipe for f in found if f.budget == search.budget[0]]
                assert all(set(search.searched) <= set(recipe) for recipe in here), model.name


@pytest.mark.parametrize("name", WITH_RECORDS)
def test_committed_records_are_all_of_cells_of_their_study(name):
    assert {record.id for record in records(name)} <= {cell.id for cell in cells(loaded(name))}
