"""The limit as a dial: what becomes of the pair's gap, and of a crossing, as the limit is set worse and worse."""

from collections.abc import Sequence

from vitcnn.analysis.results import Results
from vitcnn.analysis.stats import mean
from vitcnn.analysis.verdict import verdict
from vitcnn.report.tables import escape, markdown, percent
from vitcnn.report.verdict import sentence

CLAIMS = ("cnn-wins-small", "gap-closes", "crossing")


def has_dial(settings: Sequence[Results]) -> bool:
    """Whether there are settings to compare, and the pair to compare at each."""
    return len(settings) > 1 and set(settings[0].study.pair) <= set(settings[0].models)


def dial_section(settings: Sequence[Results]) -> str:
    """Markdown, from one `Results` for each setting of `permutation`; empty where there is no dial, or no pair."""
    if not has_dial(settings):
        return ""
    study = settings[0].study
    first, second = study.pair
    sizes = [f"n = {n:,}" for n in study.sizes]
    gaps = [(str(r.setting), [list(r.gaps(n).values()) for n in study.sizes]) for r in settings]
    moved = [[name, *(percent(mean(g) if g else None, signed=True) for g in row)] for name, row in gaps]
    each = [
        [f"{escape(e)}, {r.setting}", *(percent(r.mean(e, n)) for n in study.sizes)]
        for e in study.pair
        for r in settings
    ]
    parts = [
        f"## The dial\n\n{escape(first)} minus {escape(second)} in points, paired by seed, with patches of the image and "
        "native pixels inside every patch put in other places, the same in every image. What the CNN takes for granted "
        "becomes false; what a ViT with learned positions takes for granted does not change.\n\n"
        "![gap at each setting](dial.png)\n",
        markdown(["", *sizes], moved),
        "Accuracy of each, in percent:\n",
        markdown(["", *sizes], each),
        "Each setting judged by itself, its claims corrected among themselves:\n",
    ]
    verdicts = [verdict(results) for results in settings]
    for results, judged in zip(settings, verdicts, strict=True):
        claims = {claim.key: claim for claim in judged.claims}
        parts.append(f"- {results.setting}:")
        parts += [f"  - {escape(caveat)}" for caveat in judged.caveats if caveat not in verdicts[0].caveats]
        parts += [f"  - {sentence(claims[key])}" for key in CLAIMS]
    return "\n".join(parts) + "\n"
