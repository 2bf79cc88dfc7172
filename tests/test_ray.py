"""Workers on a Ray cluster of several nodes, which are started here: what becomes of a study is what becomes of it on
one machine."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
from launching import LONG, OPTIONS, TEXT, named, pid_in_a_step, wait_for

from vitcnn.errors import ConfigError
from vitcnn.launch.open_study import open_study
from vitcnn.launch.run_study import run_study
from vitcnn.launch.scheduler import run_jobs
from vitcnn.store.paths import StudyPaths
from vitcnn.store.records import read_record
from vitcnn.store.status import process_runs, read_progress, states
from vitcnn.training.train import train_cell

ray = pytest.importorskip("ray", reason="Ray is not installed")
from ray.cluster_utils import Cluster  # noqa: E402

from vitcnn.launch.ray import RayPool  # noqa: E402
from vitcnn.launch.ray_cluster import connected  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Ray's clusters on one machine need Linux")


@pytest.fixture(scope="module")
def head() -> Iterator[Cluster]:
    """Without CPUs: what it trains is trained on nodes that a test adds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(ROOT))  # of the nodes
        cluster = Cluster(initialize_head=True, head_node_args=NODE | {"num_cpus": 0, "include_dashboard": False})
        yield cluster
        cluster.shutdown()


@pytest.fixture
def nodes(head: Cluster) -> Iterator[Callable[[int], list]]:
    """`nodes(2)`: that many new nodes with one CPU; they end with the test."""

    def add(count: int) -> list:
        return [head.add_node(**NODE) for _ in range(count)]

    yield add
    for node in list(head.worker_nodes):
        head.remove_node(node)


@pytest.fixture
def node_apart(head: Cluster, tmp_path: Path) -> Iterator[None]:
    """A node that does not see the test's folder."""
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("unshare is not allowed")
    start = f"{shutil.which('ray', path=os.path.dirname(sys.executable))} start --address {head.address} --num-cpus 1"
    hidden = f"mount -t tmpfs none {tmp_path} && {start} --object-store-memory {NODE['object_store_memory']} --block"
    node = subprocess.Popen(["unshare", "-m", "sh", "-c", hidden], stdout=subprocess.DEVNULL, start_new_session=True)
    yield
    below = psutil.Process(node.pid).children(recursive=True)
    node.terminate()
    node.wait(20)
    for process in below:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(TEXT)
    return path


@pytest.fixture
def run(head: Cluster, file: Path, paths: StudyPaths) -> Callable:
    """`run(jobs, tick)`: jobs of the study on the cluster; (outcome, what was said)."""

    def call(jobs, tick=lambda: None, **how):
        said: list[str] = []
        opened = open_study(file, results=paths.results, runs=paths.runs)
        with connected(head.address, None, "cpu") as cluster:
            pool = partial(RayPool, cluster, opened, False, said.append)
            return run_jobs(jobs, paths, OPTIONS, len(jobs), tick, said.append, pool), said

    return call


def test_a_study_has_the_records_that_one_machine_gives_it_and_is_then_done(file, nodes, head, paths, tmp_path, vitcnn):
    nodes(2)
    how = ["--launcher", "ray", "--address", head.address, "--wandb", "off"]
    code, out, _ = vitcnn("run", file, *how)
    assert code == 1
    assert "burns-n50-s0 failed: NotFiniteLoss" in out
    assert "2 done  1 failed" in out
    opened = open_study(file, results=paths.results, runs=paths.runs)
    cells = {cell.model: cell for cell in opened.cells}
    assert read_record(paths.record(cells["linear"].id)).test.images == opened.about.test
    alone = train_cell(cells["vit"], paths=StudyPaths("other", tmp_path, tmp_path))
    record = read_record(paths.record(cells["vit"].id))
    assert (record.weights, record.curve, record.test) == (alone.weights, alone.curve, alone.test)
    assert not list(paths.run.glob("locks/*"))
    assert not list(paths.records.glob(".*"))
    assert "all 3 cells are done, or failed for good" in vitcnn("run", file, *how)[1]


def test_a_node_that_is_lost_costs_only_its_cell_which_goes_on_elsewhere(
    file, nodes, head, paths, tmp_path, run, monkeypatch
):
    monkeypatch.setenv("VITCNN_CHECKPOINT_EVERY", "0.2")
    cell, other = named(file, "vit", LONG), named(file, "linear")
    both, lost = {node.all_processes["raylet"][0].process.pid: node for node in nodes(2)}, []

    def tick() -> None:
        if not lost and (paths.cell(cell.id) / "last.ckpt").exists() and (pid := pid_in_a_step(paths, cell)):
            (raylet,) = {parent.pid for parent in psutil.Process(pid).parents()} & set(both)
            head.remove_node(both[raylet], allow_graceful=False)
            lost.append(pid)

    outcome, said = run([(cell,), (other,)], tick)
    assert lost
    assert {c.model for c in outcome.done} == {"vit", "linear"}
    assert not outcome.failed
    assert any(f"{cell.title} failed (its Ray worker on" in line for line in said)
    record, alone = read_record(paths.record(cell.id)), train_cell(cell, paths=StudyPaths("o", tmp_path, tmp_path))
    assert record.cost.resumed >= 1
    assert record.weights == alone.weights


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_leaves_a_checkpoint_and_no_process(number, file, nodes, paths, run):
    cell, pids = named(file, "vit", "budget.images_seen=640000"), []  # it is stopped long before the end
    nodes(1)

    def tick() -> None:
        if not pids and (pid := pid_in_a_step(paths, cell)):
            pids.extend([pid, *(parent.pid for parent in psutil.Process(pid).parents()[:2])])  # up to the actor
            os.kill(os.getpid(), number)

    outcome, said = run([(cell,)], tick)
    assert outcome.interrupted
    assert said == ["Stopping: the running cells save a checkpoint …"]
    assert [state.kind for state in states([cell], paths)] == ["stopped"]
    assert (paths.cell(cell.id) / "last.ckpt").exists()
    wait_for(lambda: not any(map(process_runs, pids)), 10)


NET = """
from torch import nn

def build(image_size, channels, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size**2, classes))
"""


def test_a_node_without_the_folders_gets_the_code_and_gives_back_what_it_made(
    file, node_apart, head, paths, tmp_path, own
):
    """Records, labels, progress, and with --keep-weights the weights."""
    own(NET)
    long = "budget.images_seen=96000"  # of a very small network; progress is asked for once a second
    change = ("models={mine: {arch: 'import:nets:build'}, on: {arch: 'import:nets:build', init_from: mine}}", long)
    seen = []

    def tick() -> None:
        seen.extend(found["step"] for cell in opened.cells if (found := read_progress(paths.cell(cell.id))))

    opened = open_study(file, change, results=paths.results, runs=paths.runs)
    with connected(head.address, None, "cpu") as cluster:
        pool = partial(RayPool, cluster, opened, False, print)
        outcome = run_jobs([(cell,) for cell in opened.cells], paths, OPTIONS, 1, tick, print, pool)
    assert (outcome.failed, len(outcome.done)) == ({}, 2)
    assert not any((paths.cell(cell.id)).exists() for cell in opened.cells)
    mine, on = (read_record(paths.record(cell.id)) for cell in opened.cells)
    assert mine.weights == train_cell(mine.cell, paths=StudyPaths("other", tmp_path, tmp_path)).weights
    assert on.weights == train_cell(on.cell, paths=paths).weights  # from the weights that were given back
    assert paths.labels.exists()
    assert any(seen)


# ---- messages ----


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"launcher": "rai"}, "did you mean 'ray'"),
        ({"address": "there:1"}, "--address needs --launcher ray"),
        ({"gpus_per_cell": 0.5}, "--gpus-per-cell needs --launcher ray"),
        ({"launcher": "ray", "gpus_per_cell": 1.5}, "a fraction such as 0.25, or a whole number"),
        ({"launcher": "ray", "gpus_per_cell": 1, "device": "cpu"}, "contradict each other"),
        ({"launcher": "ray", "gpus_per_cell": 0, "device": "cuda"}, "contradict each other"),
        ({"launcher": "ray", "device": "cuda:1"}, "Ray chooses which GPU"),
        ({"launcher": "ray", "address": "ray://there:1"}, "Ray Client is not supported"),
        ({"launcher": "ray", "address": "127.0.0.1:1"}, "address 127.0.0.1:1: no Ray cluster answers"),
        ({"launcher": "ray", "address": "there"}, "write HOST:PORT"),
    ],
)
def test_what_does_not_go_is_a_sentence(how, said, file, paths, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ConfigError, match=said):
        run_study(file, results=paths.results, runs=paths.runs, wandb="off", **how)


def test_without_ray_a_sentence_says_how_to_install_it(file, paths, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "vitcnn.launch.ray", raising=False)
    with pytest.raises(ConfigError, match=r"pip install 'vitcnn\[ray\]'"):
        run_study(file, results=paths.results, runs=paths.runs, launcher="ray")
