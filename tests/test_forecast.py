"""What a cluster would take, on paper."""

import pytest
from synthetic import every, make_study, write

from vitcnn.launch.forecast import CHECKPOINT, LARGER, forecast, makespan


@pytest.mark.parametrize(
    ("seconds", "workers", "wall"),
    [([3, 1, 2], 1, 6), ([3, 1, 2], 2, 3), ([1, 1, 1, 9], 2, 10), ([5], 8, 5), ([2] * 9, 3, 6), ([], 4, 0)],
)
def test_a_free_worker_begins_the_next_cell(seconds, workers, wall):
    assert makespan(seconds, workers) == wall


def test_a_forecast_counts_start_up_idle_workers_and_bytes():
    first, *larger = forecast([9.0, 9.0, 9.0], 2, record=1000, parameters=[10, 70], overhead=1.0)
    assert (first.cells, first.wall, first.records) == (3, 20.0, 3000)
    assert first.idle == pytest.approx(0.25)  # of 40 seconds 30 are used
    assert first.checkpoints == CHECKPOINT * 70 * 2
    assert [one.cells for one in larger] == list(LARGER)
    assert larger[-1].wall == pytest.approx(10 * 10**6 / 2)
    assert larger[-1].idle == pytest.approx(0)


def test_plan_has_a_table_of_a_cluster(tmp_path, vitcnn):
    more = ["models=[vit, cnn]", "sizes=[50]", "seeds=2"]
    _, all_cells, paths = make_study(tmp_path, *more)
    write(every(all_cells, lambda _: 0.5), paths)
    code, out, _ = vitcnn("plan", "trio.yaml", *more, "--cluster", 4)
    assert code == 0
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.split("On 4 workers")[1].splitlines()]
    assert [row[0] for row in rows if len(row) == 5] == ["4", "1,000", "100,000", "1,000,000"]
