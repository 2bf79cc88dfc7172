"""Which gap the seeds of a study can be expected to find, from the spread that its finished cells show."""

from vitcnn.analysis.claims import TESTS
from vitcnn.analysis.results import Results
from vitcnn.analysis.stats import detectable, deviation
from vitcnn.analysis.verdict import ALPHA


def detectable_gaps(results: Results) -> str:
    """One sentence for `vitcnn plan`: the gap that one test finds, and in brackets the one that is found whatever the
    verdict's other tests say (Holm's first step). Says what is missing where no spread has been measured."""
    first, second = results.study.pair
    asked = len(results.study.seeds)
    measured = {n: list(results.gaps(n).values()) for n in results.study.sizes}
    measured = {n: gaps for n, gaps in measured.items() if len(gaps) > 1}
    spreads = {n: 100 * deviation(gaps) for n, gaps in measured.items()}
    strict = 1 - ALPHA / TESTS
    parts = [
        f"{detectable(spread, asked, 1 - ALPHA):.1f} ({detectable(spread, asked, strict):.1f}) at n = {n:,}"
        for n, spread in spreads.items()
    ]
    seeds = sorted({len(gaps) for gaps in measured.values()})
    if asked < 2:
        return "One seed: no gap can be told from chance; give two seeds or more."
    if not parts:
        return (
            f"Which gap {asked} seeds can find is not known yet: it takes two finished seeds of {first} and {second} "
            "at one size."
        )
    return (
        f"{asked} seeds find a gap {first} − {second} four times in five (t test, 5 %; in brackets: as one of the "
        f"verdict's {TESTS} tests, at worst) if it has, in points, "
        f"{', '.join(parts)} or more; by the spread of the {' or '.join(map(str, seeds))} seeds finished so far."
    )
