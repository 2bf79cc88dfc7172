"""The report of a search: every trial, the choice, and what is missing."""

import numpy as np
import pytest
from synthetic import SEARCH, make_study, record, rows, write

from vitcnn.errors import ConfigError
from vitcnn.report.report import report_text, write_report


def search(tmp_path, *overrides):
    """At 50 images lr 0.01 is best, at 1,000 lr 0.003, both with shift:1; the test results say the opposite."""
    study, all_cells, paths = make_study(tmp_path, *overrides, text=SEARCH, name="search")
    rng = np.random.default_rng(0)
    for c in all_cells:
        good = (c.recipe.lr == (0.01 if c.n == 50 else 0.003)) + 0.1 * (c.recipe.augment != "none")
        write([record(c, 0.9 - 0.2 * good, validation=0.5 + 0.2 * good, rng=rng)], paths)
    return study, all_cells, paths


def test_a_search_shows_every_trials_validation_accuracy_and_its_choice_in_bold(tmp_path):
    study, all_cells, paths = search(tmp_path)
    text = report_text(study, all_cells, paths)
    assert text.startswith("# search\n")
    assert "6 trials for each model and size, seeds [0]" in text
    for model in ("vit", "cnn"):
        head, *lines = rows(text, model)
        assert head == ["recipe", "n = 50", "n = 1,000"]
        assert len(lines) == 6
        by_recipe = {line[0]: line[1:] for line in lines}
        assert by_recipe["lr=0.003 augment=none"] == ["49.8", "70.0"]  # of 297 images: 148 and 208
        assert by_recipe["lr=0.01 augment=shift:1"] == ["**72.1**", "51.9"]
        assert by_recipe["lr=0.003 augment=shift:1"] == ["51.9", "**72.1**"]
        assert f"- {model} at n = 50 chose lr = 0.01, the edge of the grid" in text
        assert f"{model} at n = 1,000 chose" not in text


@pytest.mark.parametrize(
    ("overrides", "head"),
    [
        ((), "augment (instead of none)"),
        (("models={vit: {}, cnn: {recipe: {augment: 'shift:2'}}}", "grid=[{lr: [0.001, 0.003, 0.01]}, "
          "{lr: [0.02], augment: [none, 'shift:1']}]"), "augment (instead of its first value)"),
    ],
)  # fmt: skip
def test_what_a_field_gained_is_held_against_a_value_that_the_heading_names_where_it_is_everyones(
    tmp_path, overrides, head
):
    text = report_text(*search(tmp_path, *overrides))
    assert rows(text, "Gain of the search")[0][2:] == ["lr (instead of 0.001)", head]


def test_an_unfinished_search_is_refused_and_a_broken_record_is_named_as_the_cause(tmp_path):
    study, all_cells, paths = search(tmp_path)
    paths.record(all_cells[0].id).write_text("{}")
    with pytest.raises(ConfigError) as caught:
        write_report(study, all_cells, paths)
    assert "not finished" in str(caught.value)
    assert all_cells[0].id in str(caught.value)
