"""The look of every figure: matplotlib's defaults and `STYLE`, whatever a user's matplotlibrc says."""

import contextlib
from collections.abc import Iterator

import matplotlib as mpl

STYLE = {
    "font.size": 10,
    "axes.titlesize": 10,
    "savefig.dpi": 130,
    "text.parse_math": False,  # names may hold a "$"
}  # same records, same bytes


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Figures are made and saved in this context. They are `matplotlib.figure.Figure`s, which need no backend."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield
