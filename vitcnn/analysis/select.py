"""Choosing recipes from a search. The rule looks at validation and at nothing else."""

import math
import statistics
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from vitcnn.errors import ConfigError
from vitcnn.store.records import Score
from vitcnn.study.cell import Cell
from vitcnn.study.recipe import Recipe
from vitcnn.study.schema import Study
from vitcnn.study.yaml_file import dump

RULE = "highest validation accuracy, mean over seeds; ties: lowest validation loss"


@dataclass(frozen=True)
class Trial:
    """One recipe of one model at one n: mean validation accuracy and loss over the search's seeds; −∞ and ∞ where the
    training of one of them failed."""

    model: str
    n: int
    variant: str
    recipe: Recipe
    accuracy: float
    nll: float
    images: int  # of validation; the same ones for every seed


def trials(cells: Sequence[Cell], validation: dict[str, Score], failed: Collection[str] = ()) -> list[Trial]:
    """`validation`: by cell id; `failed`: ids of cells whose loss was no number. Raises ConfigError where a cell is
    missing: a choice among fewer trials is unfair."""
    networks = [cell for cell in cells if not cell.is_linear]
    if missing := [cell.title for cell in networks if cell.id not in {*validation, *failed}]:
        raise ConfigError(
            f"the search is not finished: {len(missing):,} cell{'s' * (len(missing) > 1)} missing, {missing[0]} among "
            "them"
        )
    groups: dict[tuple, list[Cell]] = defaultdict(list)
    for cell in networks:
        groups[cell.model, cell.n, cell.variant].append(cell)
    if not groups:
        raise ConfigError("nothing to choose: no model of this search has a recipe")
    out = []
    for (model, n, variant), same in groups.items():
        if any(cell.id in failed for cell in same):
            out.append(Trial(model, n, variant, same[0].recipe, -math.inf, math.inf, 0))
            continue
        scores = [validation[cell.id] for cell in same]
        # rounded, so that the same scores in another order of seeds are a tie
        accuracy, nll = (round(sum(getattr(s, k) for s in scores) / len(scores), 12) for k in ("accuracy", "nll"))
        out.append(Trial(model, n, variant, same[0].recipe, accuracy, nll, scores[0].images))
    return out


def best(among: Sequence[Trial]) -> dict[tuple[str, int], Trial]:
    """The chosen trial of each (model, n), by `RULE`."""
    out: dict[tuple[str, int], Trial] = {}
    for trial in among:
        now = out.get((trial.model, trial.n))
        if now is None or (trial.accuracy, -trial.nll) > (now.accuracy, -now.nll):
            out[trial.model, trial.n] = trial
    for trial in out.values():
        if math.isinf(trial.accuracy):
            raise ConfigError(f"every trial of {trial.model} at n = {trial.n:,} failed: lower learning rates?")
    return out


def edges(study: Study, among: Sequence[Trial]) -> list[str]:
    """A sentence for each chosen number on the edge of what was tried for this model and n with the choice's other
    fields, and what it gained there: the optimum may lie beyond. Fields of one or two values are passed over.

    The gain is over the best trial inside the grid, beside one binomial standard error of the validation accuracy: a
    gain well below it is a plateau.
    """
    out = []
    for (model, n), trial in best(among).items():
        mine = [t for t in among if (t.model, t.n) == (model, n)]
        for key in study.searched:
            values = {getattr(t.recipe, key) for t in mine}
            if len(values) < 3 or not all(isinstance(v, (int, float)) for v in values):
                continue
            others = set(study.searched) - {key}
            along = [t for t in mine if all(getattr(t.recipe, k) == getattr(trial.recipe, k) for k in others)]
            tried = [getattr(t.recipe, key) for t in along]
            value, ends = getattr(trial.recipe, key), (min(tried), max(tried))
            if len(set(tried)) == 1:
                out.append(f"{model} at n = {n:,} chose {key} = {value:g}, the only one tried with its other fields")
            elif value in ends and value != 0:  # nothing lies below no weight decay
                inside = [t.accuracy for t in mine if ends[0] < getattr(t.recipe, key) < ends[1]]
                gain = "all trials inside it failed" if inside else "nothing was tried inside it"
                if inside and math.isfinite(max(inside)):
                    gain = f"{100 * (trial.accuracy - max(inside)):+.1f} points over the best inside it"
                error = math.sqrt(trial.accuracy * (1 - trial.accuracy) / trial.images)
                out.append(
                    f"{model} at n = {n:,} chose {key} = {value:g}, the edge of the grid: {gain} (standard error "
                    f"{100 * error:.1f}); widen it unless that is a plateau"
                )
    return out


def gains(study: Study, among: Sequence[Trial]) -> dict[tuple[str, int], dict[str, float]]:
    """How much higher the chosen trial's validation accuracy is than the median trial's, and, for each field that was
    searched, than the best of the trials with the first of its values (its default where its grids leave it out)."""
    out = {}
    for place, trial in best(among).items():
        same = [t for t in among if (t.model, t.n) == place]
        out[place] = {"the median trial": trial.accuracy - statistics.median(t.accuracy for t in same)}
        for key in study.searched:
            first = getattr(same[0].recipe, key)
            fixed = max(t.accuracy for t in same if getattr(t.recipe, key) == first)
            out[place][key] = trial.accuracy - fixed
    return out


def choose(
    study: Study, cells: Sequence[Cell], validation: dict[str, Score], failed: Collection[str] = ()
) -> dict[str, Any]:
    """What `recipes.yaml` holds; `validation` and `failed` as in `trials`. Raises ConfigError where the study is no
    search or is not finished."""
    if not study.grid:
        raise ConfigError(f"{study.name} is not a search: it has no `grid`")
    all_trials = trials(cells, validation, failed)
    chosen, models = best(all_trials), defaultdict(dict)
    for (model, n), trial in chosen.items():
        chosen_fields = trial.recipe.model_dump(mode="json")
        searched = {key: chosen_fields[key] for key in study.searched}  # written even where the choice is the default
        models[model][n] = trial.recipe.model_dump(mode="json", exclude_defaults=True) | searched
    return {
        "search": study.name,
        "dataset": study.dataset,
        "rule": RULE,
        "trials": len(all_trials) // len(chosen),
        "seeds": list(study.seeds),
        "budget": study.budget[0].model_dump(exclude_none=True),
        **({"permutation": study.permutation[0].model_dump(exclude_defaults=True)} if study.permutation else {}),
        "edges": edges(study, all_trials),
        "models": dict(models),
    }


def recipes_yaml(choice: dict[str, Any]) -> str:
    """`recipes.yaml`'s text."""
    return f"# Written by `vitcnn select`. `trials`: for each model and size.\n{dump(choice)}"
