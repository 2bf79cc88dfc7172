"""Why a claim is not tested, in words: the end of a sentence without its full stop."""

from functools import singledispatch

from vitcnn.analysis import reasons as r


@singledispatch
def reason(why: r.Reason) -> str:
    raise TypeError(why)


@reason.register
def _(why: r.NoSharedPlace) -> str:
    where = "size" if why.axis.kind == "n" else f"budget at n = {why.axis.n:,}"
    return f"no {where} has two finished seeds of both {why.first} and {why.second}"


@reason.register
def _(why: r.FewPlaces) -> str:
    return "it needs two sizes" if why.axis.kind == "n" else f"it needs two budgets at n = {why.axis.n:,}"


@reason.register
def _(why: r.FewSeeds) -> str:
    are = "is" if why.common == 1 else "are"
    finished = ", ".join(f"{count} of {model} at {why.axis.name(place)}" for model, place, count in why.finished)
    return f"it needs two seeds in common, and {why.common} {are} finished ({finished})"


@reason.register
def _(why: r.FewTestImages) -> str:
    return "it needs two test images, and there is one"


@reason.register
def _(why: r.UnequalTestSets) -> str:
    return f"the records' test sets differ in size ({', '.join(map(str, why.images))})"


@reason.register
def _(why: r.FewErrors) -> str:
    place = why.axis.name(why.place)
    wrong = f"{why.model} gets {why.wrong:.1f} test images wrong at {place}, on average"
    return f"{wrong}; a ratio of errors needs {why.needed}"


@reason.register
def _(why: r.SeedsDisagree) -> str:
    return "the seeds that neighbouring places share disagree with all seeds of one place"


@reason.register
def _(why: r.NoWindowedModel) -> str:
    return "the study has no Swin-style model beside the pair"


@reason.register
def _(why: r.NoVariance) -> str:
    return "neither seeds nor test images vary"
