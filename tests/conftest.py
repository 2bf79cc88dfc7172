# ruff: noqa: E402
"""What every test has: the digits in a data folder of their own, one CPU thread, ways to write a study and to call."""

import gc

gc.disable()  # until all is imported: collections take a fifth of that time

import importlib
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from planted import TRUTHS, drawn

from vitcnn import cli
from vitcnn.analysis.results import Results
from vitcnn.data.sources.fetch import DataSet, fetch, load
from vitcnn.data.sources.registry import parse_dataset
from vitcnn.store.paths import StudyPaths
from vitcnn.study.cell import Cell
from vitcnn.study.load import load_study
from vitcnn.study.matrix import cells
from vitcnn.study.schema import Study

SMALL = """
dataset: digits
sizes: [50, 200]
seeds: 2
models: [vit, cnn, linear]
budget: {images_seen: 1000}
"""


@pytest.fixture(scope="session", autouse=True)
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data cache of the whole session: `$VITCNN_DATA`, with the digits in it."""
    torch.set_num_threads(1)
    gc.enable()
    gc.collect()
    gc.freeze()  # a training ends with a collection, which need not look at all that was imported each time
    folder = tmp_path_factory.mktemp("data")
    fetch(parse_dataset("digits"), folder, log=lambda _: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VITCNN_DATA", str(folder))
        yield folder


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., Study]:
    """`study("sizes=[50]")`: the small study with overrides; `study(text=…)`: any other text."""

    def make(*overrides: str, text: str = SMALL, name: str = "small.yaml") -> Study:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return load_study(path, overrides)

    return make


@pytest.fixture
def one_cell(study) -> Callable[..., Cell]:
    """`one_cell(text, "seeds=1")`: the only cell of a study."""

    def pick(text: str, *overrides: str) -> Cell:
        (cell,) = cells(study(*overrides, text=text))
        return cell

    return pick


@pytest.fixture
def of(study, request) -> Callable[..., list[Cell]]:
    """`of("vit", "seeds=1")`: the cells of a model of the module's study, its `TEXT`."""

    def pick(model: str, *overrides: str) -> list[Cell]:
        return [cell for cell in cells(study(*overrides, text=request.module.TEXT)) if cell.model == model]

    return pick


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Results]:
    """A study of six seeds drawn from each of the planted truths."""
    return {name: drawn(tmp_path_factory.mktemp("planted"), truth) for name, truth in TRUTHS.items()}


@pytest.fixture
def paths(tmp_path: Path) -> StudyPaths:
    """Of the small study."""
    return StudyPaths("small", tmp_path / "results", tmp_path / "runs")


@pytest.fixture
def vitcnn(monkeypatch, capsys, tmp_path) -> Callable[..., tuple[int, str, str]]:
    """`vitcnn("status", file)`: the command in an empty folder; (exit status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vitcnn", *map(str, words)])
        ctrl_c = signal.getsignal(signal.SIGINT)
        with pytest.raises(SystemExit) as caught:
            cli.main()
        signal.signal(signal.SIGINT, ctrl_c)  # an interrupted run leaves it ignored
        said = capsys.readouterr()
        return caught.value.code or 0, said.out, said.err

    return call


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where a test puts its images."""
    return tmp_path / "pets"


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., DataSet]:
    """`read(root)`: the folder, fetched and loaded; what was said is in `read.said`."""

    def call(folder: Path, resolution: int | None = None, **how) -> DataSet:
        call.said.clear()
        fetch(parse_dataset(f"folder:{folder}", resolution), tmp_path / "cache", log=call.said.append, **how)
        return load(parse_dataset(f"folder:{folder}", resolution), tmp_path / "cache")

    call.said = []
    return call


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No name is found, at once: what a machine without a network does, and one with a network must not undo."""

    def unknown(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)


@pytest.fixture
def own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Path]]:
    """`own(text, path)`: a module of that text, by default the test file's `NETS`, in the current folder, an empty one;
    forgotten at the end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())

    def write(text: str | None = None, path: str = "nets.py") -> Path:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(request.module.NETS if text is None else text, encoding="utf-8")
        importlib.invalidate_caches()
        return file

    yield write
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture(scope="module")
def browser():
    """Chromium; skips where there is none."""
    from browsing import chromium

    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def files(browser, tmp_path_factory):
    """(report, page's file) of two reference studies and of a study with wicked names."""
    from paging import committed, evil, saved

    def make(name, folder):
        report, source = evil(folder) if name == "evil" else committed(f"{name}/reference")
        return report, saved(folder, report, source)

    return {name: make(name, tmp_path_factory.mktemp(name)) for name in ("digits", "cifar10", "evil")}


@pytest.fixture
def visit(browser, files):
    from browsing import quiet

    with quiet(browser, {name: file.as_uri() for name, (_, file) in files.items()}) as go:
        yield go
