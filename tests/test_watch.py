"""`--watch`: the page and the table are made again while cells finish, and end when none is left."""

import re
import threading
import time
from types import SimpleNamespace

import pytest
from synthetic import every, make_study, write

from vitcnn.launch import watch
from vitcnn.launch.watch import changes
from vitcnn.store.status import states, to_train


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(watch, "EVERY", 0.05)


@pytest.fixture
def growing(tmp_path):
    """A study's file; its 18 cells finish in three steps once `begin()` was called."""
    _, all_cells, paths = make_study(tmp_path, "sizes=[50,200]", "models=[vit,cnn,linear]")
    records = every(all_cells, lambda _: 0.5)
    write(records[:6], paths)

    def rest():
        for part in (records[6:12], records[12:]):
            time.sleep(0.4)
            write(part, paths)

    thread = threading.Thread(target=rest)
    yield thread.start, all_cells, paths
    thread.join()


WORDS = ("trio.yaml", "sizes=[50,200]", "models=[vit,cnn,linear]")


def reloads(page):
    return re.findall(r'http-equiv="refresh" content="(\d+)"', page.read_text(encoding="utf-8"))


def test_each_change_is_told_until_no_cell_is_left(growing):
    begin, cells, paths = growing
    begin()
    left = [len(to_train(states(cells, paths))) for _ in changes(cells, paths)]
    assert left[0] == 12
    assert left == sorted(left, reverse=True)
    assert 2 <= len(left) <= 12


def test_the_page_is_written_again_and_reloads_until_no_cell_is_left(growing, vitcnn, monkeypatch):
    begin, _, paths = growing
    seen, page = [], paths.report / "report.html"

    def sleep(_):
        if not seen:
            begin()
        seen.append(reloads(page))
        pause(0.05)

    pause = time.sleep
    monkeypatch.setattr(watch, "time", SimpleNamespace(sleep=sleep))
    code, out, _ = vitcnn("report", *WORDS, "--html", "--watch")
    assert code == 0
    assert out.count("report.html") >= 2
    assert seen == [["10"]] * len(seen)
    assert reloads(page) == []
    assert "18 finished cells" in page.read_text(encoding="utf-8")


def test_watching_a_page_ends_by_ctrl_c_with_a_page_that_does_not_reload(growing, vitcnn, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    begin, _, paths = growing
    monkeypatch.setattr(watch, "time", SimpleNamespace(sleep=interrupted))
    assert vitcnn("report", *WORDS, "--html", "--watch")[0] == 0
    begin()
    assert reloads(paths.report / "report.html") == []
    assert "6 finished cells" in (paths.report / "report.html").read_text(encoding="utf-8")


def test_only_a_page_can_be_watched(tmp_path, vitcnn):
    make_study(tmp_path)
    assert vitcnn("report", "trio.yaml", "--watch") == (2, "", "vitcnn: --watch: needs --html\n")


def test_status_is_shown_until_no_cell_is_left(growing, vitcnn):
    begin, _, _ = growing
    begin()
    code, out, _ = vitcnn("status", *WORDS, "--watch")
    assert code == 0
    assert "18 done  of 18 cells" in out
    assert out.rstrip().splitlines()[-1].startswith("└")
