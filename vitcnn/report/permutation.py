"""The gap at each setting of a fixed permutation of patches and pixels, and the verdict of each."""

from collections.abc import Sequence

from vitcnn.analysis.caveats import unpermuted
from vitcnn.analysis.results import Results
from vitcnn.analysis.stats import mean
from vitcnn.analysis.verdict import verdict
from vitcnn.report.caveats import caveat
from vitcnn.report.markdown import bullets, heading, image, join, paragraph, table
from vitcnn.report.tables import percent
from vitcnn.report.verdict import sentence

CLAIMS = ("cnn-wins-small", "gap-closes", "crossing", "gap-closes-budget", "crossing-budget")


def has_permutations(settings: Sequence[Results]) -> bool:
    """Whether there are settings to compare, and the pair to compare at each."""
    return len(settings) > 1 and set(settings[0].study.pair) <= set(settings[0].models)


def permutation_section(settings: Sequence[Results]) -> str:
    """Markdown, from one `Results` for each setting of `permutation`; empty for a single setting, or without a pair."""
    if not has_permutations(settings):
        return ""
    study, shown = settings[0].study, [r.at_largest_budget for r in settings]
    first, second = study.pair
    sizes = [f"n = {n:,}" for n in study.sizes]
    gaps = [(str(r.setting), [list(r.gaps(n).values()) for n in study.sizes]) for r in shown]
    moved = [[name, *(percent(mean(g) if g else None, signed=True) for g in row)] for name, row in gaps]
    each = [[f"{e}, {r.setting}", *(percent(r.mean(e, n)) for n in study.sizes)] for e in study.pair for r in shown]
    parts = [
        heading(2, "Permutation"),
        paragraph(
            "Patches of the image, and native pixels inside every patch, change places. The permutation is the same "
            "for every image. This gradually removes the locality a CNN assumes. A ViT with learned positions does not "
            "assume it."
        ),
        heading(3, "Gap"),
        paragraph(f"{first} minus {second} in points, paired by seed."),
        image("gap at each setting", "permutation.png"),
        table(["", *sizes], moved),
        heading(3, "Accuracy"),
        paragraph("Test accuracy of each model in percent."),
        table(["", *sizes], each),
        *[paragraph(caveat(note)) for r in settings if (note := unpermuted(r))][:1],
        heading(3, "Verdict at each setting"),
        paragraph("The claims of a setting are corrected among themselves."),
    ]
    verdicts = [verdict(results) for results in settings]
    known = set(map(caveat, verdicts[0].caveats))
    judged = ""
    for results, one in zip(settings, verdicts, strict=True):
        lines = [text for text in map(caveat, one.caveats) if text not in known]
        lines += [sentence(claim) for claim in one.claims if claim.key in CLAIMS]
        judged += bullets([f"{results.setting}:"]) + bullets(lines, depth=1)
    return join([*parts, judged])
