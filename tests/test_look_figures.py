"""Figures of what networks look at: maps are drawn where they belong."""

import numpy as np

from vitcnn.report import look as figures
from vitcnn.report.style import drawing


def test_borders_of_shifted_windows_are_drawn_where_they_are():
    with drawing():
        _, (ax,) = figures.panels(1, 1, "", (2, 2))
        figures.attention_map(ax, np.zeros((16, 16, 3)), np.ones((8, 8)) / 64, ((4, 2), (4, 0)))
    across = [line.get_ydata()[0] for line in ax.lines if line.get_ydata()[0] == line.get_ydata()[1]]
    down = [line.get_xdata()[0] for line in ax.lines if line.get_xdata()[0] == line.get_xdata()[1]]
    assert (across, down) == ([3.5, 11.5], [7.5])  # before tokens 2 and 6, and 4, of two pixels each


def test_windows_that_do_not_divide_a_row_leave_a_smaller_one():
    assert figures.borders(16, 5, 0) == [5, 10, 15]
    assert figures.borders(16, 5, 2) == [1, 2, 7, 12]  # token 0 is with 12 to 15, token 1 alone
    assert figures.borders(4, 4, 0) == []


def test_maps_by_offset_are_cut_to_what_is_looked_at():
    heads = np.zeros((2, 9, 9))
    heads[0, 4, 5], heads[1, 2, 4] = 0.5, 0.5
    cut = figures.near(heads)
    assert cut.shape == (2, 5, 3)
    assert (cut[0, 2, 2], cut[1, 0, 1]) == (0.5, 0.5)
    assert figures.near(np.zeros((1, 3, 3))).shape == (1, 3, 3)


def test_a_mosaic_keeps_tiles_whole_and_apart():
    sheet = figures.mosaic(np.arange(3)[:, None, None] * np.ones((3, 2, 2)), 2)
    assert np.nan_to_num(sheet, nan=-1).tolist() == [[0, 0, -1, 1, 1]] * 2 + [[-1] * 5] + [[2, 2, -1, -1, -1]] * 2


def test_of_many_layers_both_ends_are_shown():
    assert figures.chosen(12, 6) == [0, 2, 4, 7, 9, 11]
    assert figures.chosen(3, 6) == [0, 1, 2]
