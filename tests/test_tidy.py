"""Records as a table: one row a cell, with what the records say, in Python and as a CSV file."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from synthetic import SEARCH, every, make_study, write

import vitcnn as package
from vitcnn.analysis.tidy import tidy
from vitcnn.store.records import Score, write_record

SCORES = [f"{part}_{field}" for part in ("test", "validation", "train") for field in Score.model_fields]
COLUMNS = [
    *("study", "dataset", "model", "role", "variant", "n", "seed", "arch"),
    *("test_accuracy", "test_nll", "test_images", "test_macro_accuracy", "test_ece"),
    *("validation_accuracy", "validation_nll", "validation_images", "validation_macro_accuracy", "validation_ece"),
    *("train_accuracy", "train_nll", "train_images", "train_macro_accuracy", "train_ece", "overfitting"),
    *("parameters", "macs", "steps", "images_seen", "epochs", "seconds", "images_per_s", "resumed", "lanes"),
    *("image_size", "tokens", "native_pixels_per_token"),
    *("recipe_lr", "recipe_weight_decay", "recipe_warmup", "recipe_batch_size", "recipe_label_smoothing"),
    *("recipe_clip_norm", "recipe_augment", "recipe_init", "recipe_precision"),
    *("permutation_patches", "permutation_pixels", "permutation_patch", "permutation_seed", "init_from"),
    *("id", "subset", "weights", "torch", "device", "git", "date"),
]


def accuracy(cell) -> float:
    return 0.5 + 0.1 * cell.seed + cell.n / 10_000


@pytest.fixture
def trio(tmp_path):
    """36 finished cells, some of them with scores that older records do not have; (their records, their paths)."""
    _, all_cells, paths = make_study(tmp_path)
    records = every(all_cells, accuracy)
    records[::2] = [
        r.model_copy(update={"test": r.test.model_copy(update={"macro_accuracy": r.test.accuracy / 3, "ece": 1 / 7})})
        for r in records[::2]
    ]
    write(records, paths)
    return records, paths


# ---- the table ----


def test_there_is_one_row_a_cell_and_one_column_a_fact(trio):
    records, paths = trio
    table = package.load_records(paths.report)
    assert table.columns.to_list() == COLUMNS
    assert sorted(table["id"]) == sorted(r.id for r in records)
    assert len(table) == 36


def test_rows_are_sorted_by_role_n_model_and_seed(tmp_path):
    _, all_cells, _ = make_study(tmp_path, "budget_check={seeds: [0, 2]}", "models=[vit, cnn]")
    rng = np.random.default_rng(0)
    table = tidy(every(rng.permutation(np.array(all_cells, dtype=object)), accuracy))
    keys = list(zip(table["role"], table["n"], table["model"], table["seed"], strict=True))
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys) == 18 + 8
    assert keys[0] == ("budget-check", 50, "cnn", 0)
    assert table.index.to_list() == list(range(26))


def test_the_points_of_a_search_are_in_rows_of_their_own(tmp_path):
    _, all_cells, _ = make_study(tmp_path, text=SEARCH)
    table = tidy(every(all_cells[::-1], accuracy))
    assert len(table) == 24
    assert set(table["role"]) == {"search"}
    one = table[(table["model"] == "vit") & (table["n"] == 50)]
    assert one["variant"].to_list() == sorted(
        f"lr={lr} augment={augment}" for lr in (0.001, 0.003, 0.01) for augment in ("none", "shift:1")
    )
    assert [f"lr={r.recipe_lr} augment={r.recipe_augment}" for r in one.itertuples()] == one["variant"].to_list()


def test_values_are_those_of_the_records(trio):
    records, paths = trio
    rows = package.load_records(paths.report).set_index("id")
    for record in records:
        row = rows.loc[record.id]
        cell = record.cell
        assert (row["study"], row["dataset"], row["role"]) == ("trio", "digits", "main")
        assert (row["model"], row["arch"], row["n"], row["seed"]) == (cell.model, cell.model, cell.n, cell.seed)
        for column in SCORES:
            part, _, field = column.partition("_")
            value = getattr(getattr(record, part), field)
            assert pd.isna(row[column]) if value is None else row[column] == value, column
        assert row["overfitting"] == record.train.accuracy - record.test.accuracy
        for field, value in (record.cost.model_dump() | record.input.model_dump()).items():
            assert pd.isna(row[field]) if value is None else row[field] == value, field
        if cell.recipe:
            assert {key: row[f"recipe_{key}"] for key in cell.recipe.model_dump()} == cell.recipe.model_dump()
            assert row["weights"] == record.weights
        assert (row["subset"], row["date"], row["device"]) == (
            record.subset,
            record.made_by["date"],
            record.made_by["device"],
        )


def test_what_is_not_trained_by_gradient_descent_has_an_empty_recipe_and_no_other_row_has(trio):
    recipes = package.load_records(trio[1].report).set_index("model").filter(like="recipe_")
    assert recipes.shape[1] == 9
    assert recipes.loc["linear"].isna().all(axis=None)
    assert recipes.drop("linear").notna().all(axis=None)


def test_options_of_a_model_are_columns_where_some_model_has_them(tmp_path):
    _, all_cells, _ = make_study(
        tmp_path, "models={vit: {}, deep: {arch: vit, depth: 8}, wide: {arch: cnn, channels: [8, 16, 32]}}"
    )
    table = tidy(every(all_cells, accuracy)).set_index("model")
    assert [c for c in table if c.startswith("arch_")] == ["arch_depth", "arch_channels"]
    assert table.loc["deep", ["arch", "arch_depth"]].drop_duplicates().to_numpy().tolist() == [["vit", 8]]
    assert set(table.loc["wide", "arch_channels"]) == {(8, 16, 32)}
    assert table.loc["vit", ["arch_depth", "arch_channels"]].isna().all(axis=None)


def test_a_file_that_is_no_record_is_named(trio):
    _, paths = trio
    (paths.records / "0123456789ab.json").write_text("{}")
    with pytest.raises(ValueError, match=r"0123456789ab\.json: not a valid record: id: Field required"):
        package.load_records(paths.report)


@pytest.mark.parametrize("folder", ["trio", "nowhere"])
def test_a_folder_without_records_is_named(tmp_path, folder):
    (tmp_path / "trio" / "records").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=f"{folder}/records: no records there"):
        package.load_records(tmp_path / folder)


def test_a_folder_may_be_given_as_text(trio):
    assert len(package.load_records(str(trio[1].report))) == 36


# ---- what is loaded ----


def test_the_package_alone_loads_neither_pandas_nor_torch_and_has_four_names():
    code = (
        "import sys, vitcnn\n"
        "print(*[m for m in ('pandas', 'numpy', 'torch', 'timm', 'lightning', 'sklearn') if m in sys.modules])\n"
        "vitcnn.load_records\n"
        "print(*[m for m in ('pandas', 'torch', 'timm', 'lightning', 'sklearn') if m in sys.modules])\n"
        "print(hasattr(vitcnn, 'load_record'))\n"
        "print(*sorted(vitcnn.__all__))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["", "", "False", "load_records run_study submit_study train_cell"]
    where = {"load_records": "vitcnn.analysis.tidy", "run_study": "vitcnn.launch.run_study"}
    where |= {"train_cell": "vitcnn.training.train", "submit_study": "vitcnn.launch.slurm"}
    assert {name: getattr(package, name).__module__ for name in package.__all__} == where


# ---- vitcnn export ----


def read(file) -> pd.DataFrame:
    return pd.read_csv(file, dtype={"id": str, "subset": str, "weights": str})


def same(got: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Equal, where a CSV file knows no difference between nothing, an empty text and a number that is not finite."""
    assert got.columns.to_list() == expected.columns.to_list()
    expected = expected.replace("", np.nan)
    assert got.isna().equals(expected.isna())
    for column in got:
        there = expected[column].notna()
        a, b = got[column][there].to_list(), expected[column][there].to_list()
        assert a == (pytest.approx(b, rel=1e-15) if isinstance((b or [""])[0], float) else b), column


def test_an_exported_file_reads_back_as_the_table(trio, vitcnn, tmp_path):
    code, out, err = vitcnn("export", "trio.yaml", "--csv", "trio.csv")
    assert (code, out, err) == (0, "", "36 of 36 cells\n")
    same(read(tmp_path / "trio.csv"), package.load_records(trio[1].report))


def test_a_table_on_the_terminal_is_the_file_and_nothing_else(trio, vitcnn, tmp_path):
    vitcnn("export", "trio.yaml", "--csv", "trio.csv")
    code, out, err = vitcnn("export", "trio.yaml", "--csv", "-")
    assert (code, err) == (0, "36 of 36 cells\n")
    assert out == (tmp_path / "trio.csv").read_text(encoding="utf-8")
    assert not (tmp_path / "-").exists()


def test_only_the_cells_that_the_study_asks_for_are_exported_and_what_is_no_record_is_said(trio, vitcnn, tmp_path):
    records, paths = trio
    _, strangers, _ = make_study(tmp_path, "recipe.lr=0.02", "models=[vit]", name="other")
    for record in every(strangers, accuracy):
        write_record(record, paths)
    (paths.records / "0123456789ab.json").write_text("{}")
    paths.record(next(r.id for r in records if r.cell.n == 50 and r.cell.model == "cnn")).unlink()
    code, _, err = vitcnn("export", "trio.yaml", "sizes=[50]", "models=[vit, cnn, swin]", "--csv", "some.csv")
    assert code == 0
    assert err.splitlines()[0] == "8 of 9 cells"
    assert "0123456789ab.json: not a valid record" in err.splitlines()[1]
    table = read(tmp_path / "some.csv")
    assert table.groupby("model").size().to_dict() == {"vit": 3, "swin": 3, "cnn": 2}
    assert set(table["n"]) == {50}
    assert set(table["recipe_lr"]) == {0.001}


def test_where_nothing_is_finished_nothing_is_exported_and_it_is_said(vitcnn, tmp_path):
    make_study(tmp_path)
    code, out, err = vitcnn("export", "trio.yaml", "--csv", "trio.csv")
    assert (code, out) == (2, "")
    assert err == "vitcnn: trio: no finished cells to export\n"
    assert not (tmp_path / "trio.csv").exists()
