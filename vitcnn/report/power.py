"""Which gap the seeds of a study can find, in words."""

from vitcnn.analysis.power import detectable_gaps
from vitcnn.analysis.results import Results


def power_text(results: Results) -> str:
    """For `vitcnn plan`: the gap that a single test detects, and in brackets that of Holm's first step."""
    (first, second), count = results.study.pair, len(results.study.seeds)
    if count < 2:
        return "One seed gives no interval. Use two seeds or more."
    found = detectable_gaps(results)
    if not found:
        return (
            f"The smallest gap that {count} seeds can detect is not known yet. It needs two finished seeds of {first} "
            f"and {second} at one size."
        )
    gaps = ", ".join(f"{g.alone:.1f} ({g.strict:.1f}) at n = {g.n:,}" for g in found)
    seeds = " or ".join(map(str, sorted({g.seeds for g in found})))
    return (
        f"{count} seeds detect a gap {first} − {second} with a power of 80 % (level 5 %, for new seeds and new test "
        f"images; in brackets: as the strictest of the verdict's {found[0].tests} tests) from these points on: {gaps}. "
        f"The spread is that of the {seeds} seeds finished so far."
    )
