"""Machines without a network, a GPU, memory, W&B, or a home: what is told there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vitcnn.data.sources.cache import FetchError
from vitcnn.data.sources.download import LARGEST, careful_torchvision, extract, tarfile
from vitcnn.data.sources.fetch import fetch, load
from vitcnn.data.sources.registry import parse_dataset
from vitcnn.training import provenance

STUDY = """
dataset: digits
sizes: [50]
seeds: 1
models: {vit: {width: 16, depth: 1, heads: 1}}
budget: {images_seen: 64}
recipe: {batch_size: 32}
"""


def test_without_a_network_a_fetch_says_what_was_tried_and_how_to_do_it_by_hand(offline, vitcnn, tmp_path):
    code, _, err = vitcnn("data", "fetch", "cifar100", "--data-dir", "cache")
    assert code == 2
    assert "vitcnn: cifar100 could not be fetched. Attempts:\n  torchvision: " in err
    assert "By hand: run `vitcnn data fetch cifar100` on a machine with access to the download, and copy" in err
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_gpu_that_is_asked_for_and_not_there_is_said_before_anything_is_trained(study, vitcnn, tmp_path):
    study(text=STUDY)
    code, _, err = vitcnn("run", "small.yaml", "--device", "cuda:99", "--wandb", "off")
    assert code == 2
    assert re.fullmatch(r"vitcnn: device 'cuda:99': torch \S+ sees \d CUDA devices\n", err)
    assert not list(tmp_path.glob("results/*/records/*"))


def test_images_for_which_the_disk_has_no_room_are_refused_before_one_is_read(vitcnn, tmp_path):
    from PIL import Image

    for label in "ab":
        (tmp_path / "pets" / label).mkdir(parents=True)
        for k in range(3):
            Image.new("RGB", (8, 8), (k, 0, ord(label))).save(tmp_path / "pets" / label / f"{k}.png")
    code, _, err = vitcnn("data", "fetch", "folder:pets", "--resolution", "30000000000", "--data-dir", "cache")
    assert code == 2
    assert "GB are free; free disk space, use a smaller `resolution`, or choose another disk" in err


def in_the_way(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "below"


@pytest.mark.parametrize("which", ["a file in the way", "a read-only file system"])
def test_a_data_cache_that_cannot_be_written_to_is_said_with_the_option_that_chooses_another(which, vitcnn, tmp_path):
    where = in_the_way(tmp_path) if which == "a file in the way" else Path("/sys/vitcnn")
    if not where.parent.exists():
        pytest.skip("no /sys here")
    code, _, err = vitcnn("data", "fetch", "digits", "--data-dir", where)
    assert code == 2
    assert err.startswith(f"vitcnn: {where}: ")
    assert err.endswith("; --data-dir chooses another data cache\n")
    assert len(err.splitlines()) == 1


BARE = """
import sys
from pathlib import Path

missing = "wandb typer platformdirs pebble pandas sklearn".split()  # as on a machine lent for some minutes
sys.modules |= dict.fromkeys(missing)  # `import` then finds none
from vitcnn.study.cell import Cell
from vitcnn.models.config import ViT
from vitcnn.study.budget import Budget
from vitcnn.study.recipe import Recipe
from vitcnn.store.paths import StudyPaths
from vitcnn.training.train import train_cell

cell = Cell(dataset="fractals:classes=3,size=16,test=30", validation=20, n=20, seed=0, recipe=Recipe(batch_size=8),
            arch=ViT(width=8, depth=1, heads=1, patch_size=4), budget=Budget(images_seen=16))
paths = StudyPaths("bare", Path(sys.argv[1]), Path(sys.argv[1]))
print(train_cell(cell, paths=paths, device="cpu", tracking="auto").test.images)
"""


def test_a_cell_is_trained_with_a_home_that_cannot_be_written_to_and_without_wandb_and_all_it_does_not_use(tmp_path):
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "WANDB"))}
    below = str(in_the_way(tmp_path))
    env |= dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"), below)
    command = [sys.executable, "-c", BARE, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=env)
    assert done.stdout == "30\n", done.stderr[-2000:]
    assert "continues without W&B" in done.stderr
    assert "Traceback" not in done.stderr


# ---- what lies in the cache, and what is downloaded ----


@pytest.mark.parametrize("content", ["", "{", "[]", '{"info": {}}', '{"info": {"name": 1}}'])
def test_a_broken_about_json_is_fetched_again(content, tmp_path):
    here = fetch(parse_dataset("digits"), tmp_path, log=lambda _: None)
    (here / "about.json").write_text(content)
    assert load(parse_dataset("digits"), tmp_path).info.train == 1297


def test_arrays_that_are_not_whole_are_told_with_the_folder_to_delete(tmp_path):
    here = fetch(parse_dataset("digits"), tmp_path, log=lambda _: None)
    (here / "train_images.npy").write_bytes((here / "train_images.npy").read_bytes()[:5000])
    with pytest.raises(FetchError, match=rf"{here}: .*; delete this folder to fetch the data set again"):
        load(parse_dataset("digits"), tmp_path)


class Evil:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_arrays_that_would_run_code_are_refused_and_run_none(tmp_path):
    here = fetch(parse_dataset("digits"), tmp_path, log=lambda _: None)
    np.save(here / "train_images.npy", np.array([Evil(tmp_path / "ran")], object), allow_pickle=True)
    with pytest.raises(FetchError):
        load(parse_dataset("digits"), tmp_path)
    assert not (tmp_path / "ran").exists()


def tar(path: Path, *members: tuple[str, dict]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, how in members:
            entry = tarfile.TarInfo(name)
            for key, value in how.items():
                setattr(entry, key, value)
            archive.addfile(entry)
    return path


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([("../out", {})], tarfile.OutsideDestinationError),
        ([("/../../out", {})], tarfile.OutsideDestinationError),
        ([("link", {"type": tarfile.SYMTYPE, "linkname": "../.."})], tarfile.LinkOutsideDestinationError),
        ([("link", {"type": tarfile.SYMTYPE, "linkname": "/etc"})], tarfile.AbsoluteLinkError),
        ([("link", {"type": tarfile.LNKTYPE, "linkname": "../out"})], tarfile.LinkOutsideDestinationError),
        ([("device", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 5})], tarfile.SpecialFileError),
        ([("pipe", {"type": tarfile.FIFOTYPE})], tarfile.SpecialFileError),
    ],
)
def test_an_archive_that_reaches_outside_or_holds_more_than_files_is_refused(members, why, tmp_path):
    (tmp_path / "in").mkdir()
    archive = tar(tmp_path / "x.tgz", *members)
    for unpack in (lambda: extract(archive, tmp_path / "in"), lambda: torchvisions(archive, tmp_path / "in")):
        with pytest.raises(why):
            unpack()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "x.tgz"]


def torchvisions(archive: Path, folder: Path) -> None:
    from torchvision.datasets.utils import extract_archive

    with careful_torchvision():
        extract_archive(str(archive), str(folder))


def chained() -> list[tuple[str, dict]]:
    """Links to folders of long names: resolved they exceed PATH_MAX, where Python's filter stops looking
    (CVE-2025-4517)."""
    members, deep, steps = [], "", "abcdefghijklmnop"
    for step in steps:
        long = "d" * 247
        members.append((f"{deep}{long}", {"type": tarfile.DIRTYPE, "mode": 0o755}))
        members.append((f"{deep}{step}", {"type": tarfile.SYMTYPE, "linkname": long}))
        deep += f"{long}/"
    up = f"{'/'.join(steps)}/{'l' * 254}"
    members.append((up, {"type": tarfile.SYMTYPE, "linkname": "../" * len(steps)}))
    members.append(("escape", {"type": tarfile.SYMTYPE, "linkname": f"{up}/../out"}))
    members.append(("hard", {"type": tarfile.LNKTYPE, "linkname": "escape/file"}))
    return [*members, ("hard", {"size": 0})]


@pytest.mark.parametrize("unpack", [extract, torchvisions])
@pytest.mark.parametrize(
    "members",
    [
        chained(),
        [("link", {"type": tarfile.SYMTYPE, "linkname": "file"})],
        [("file", {}), ("link", {"type": tarfile.LNKTYPE, "linkname": "file"})],
    ],
)
def test_an_archive_with_any_link_is_refused(unpack, members, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").write_text("mine")
    with pytest.raises(tarfile.FilterError, match="is a link"):
        unpack(tar(tmp_path / "x.tgz", *members), tmp_path / "in")
    assert (tmp_path / "out" / "file").read_text() == "mine"
    assert not any(path.is_symlink() for path in (tmp_path / "in").rglob("*"))


def test_an_archive_does_not_go_through_a_link_that_was_there(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "to").symlink_to(tmp_path)
    for unpack in (extract, torchvisions):
        with pytest.raises(tarfile.FilterError, match=r"'to/out' would be|'to/out' is a link"):
            unpack(tar(tmp_path / "x.tgz", ("to/out", {})), tmp_path / "in")
    assert not (tmp_path / "out").exists()


def test_an_archive_that_unpacks_to_too_much_is_refused_before_it_is_written(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        entry = tarfile.TarInfo("vast")
        entry.size = LARGEST
        archive.fileobj.write(entry.tobuf())
    with pytest.raises(ValueError, match=f"unpacks to more than {LARGEST:,} bytes"):
        extract(tmp_path / "x.tar", tmp_path)
    assert not (tmp_path / "vast").exists()


def test_a_copy_installed_inside_somebody_elses_repository_is_of_no_commit(tmp_path, monkeypatch):
    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=tmp_path, check=True)

    package = tmp_path / "installed" / "vitcnn"
    (package / "training").mkdir(parents=True)
    (package / "__init__.py").touch()
    (tmp_path / ".gitignore").write_text("installed\n")
    monkeypatch.setattr(provenance, "__file__", str(package / "training/provenance.py"))
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "theirs")
    assert provenance.git_revision.__wrapped__() is None
    git("add", "-f", "installed")
    git("commit", "-qm", "ours")
    assert re.fullmatch("[0-9a-f]{12}", provenance.git_revision.__wrapped__())
    (package / "__init__.py").write_text("x = 1\n")
    assert provenance.git_revision.__wrapped__().endswith("+")
