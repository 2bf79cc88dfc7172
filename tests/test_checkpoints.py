"""Checkpoints that are damaged, of another version, or a stranger's."""

import hashlib
import random
from pathlib import Path

import pytest
import torch
from interrupting import TEXT, interrupted, result

from vitcnn.store.paths import StudyPaths
from vitcnn.study.cell import Cell
from vitcnn.training.checkpoints import load_checkpoint, save_checkpoint
from vitcnn.training.train import train_cell


@pytest.fixture
def cell(one_cell) -> Cell:
    return one_cell(TEXT)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def edit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, edit, empty])
def test_a_broken_checkpoint_is_quarantined_and_the_one_before_serves(damage, cell, paths, tmp_path):
    undisturbed = train_cell(cell, paths=StudyPaths("other", tmp_path, tmp_path))
    interrupted(cell, paths, 5)
    last = interrupted(cell, paths, 9)
    assert last.with_name("before.ckpt").exists()
    damage(last)
    with pytest.warns(UserWarning, match=r"vit-n50-s0 continues: .*quarantined as last\.ckpt\.broken"):
        record = train_cell(cell, paths=paths)
    assert result(record) == result(undisturbed)
    assert record.cost.resumed == 1  # by the one that was saved first
    assert last.with_name("last.ckpt.broken").exists()


def test_where_no_checkpoint_is_whole_a_cell_begins_anew(cell, paths, tmp_path):
    undisturbed = train_cell(cell, paths=StudyPaths("other", tmp_path, tmp_path))
    last = interrupted(cell, paths, 5)
    cut(last)
    with pytest.warns(UserWarning, match="vit-n50-s0 starts again"):
        record = train_cell(cell, paths=paths)
    assert result(record) == result(undisturbed)
    assert record.cost.resumed == 0


@pytest.mark.parametrize("seed", range(3))
def test_a_checkpoint_with_a_bit_changed_anywhere_is_the_same_or_refused(seed, tmp_path):
    """Above all in the table of contents at the end, which no checksum covers."""
    path = tmp_path / "last.ckpt"
    checkpoint = {"step": 5, "network": {f"layer{i}": torch.rand(9, 9) for i in range(6)}}
    save_checkpoint(checkpoint, path)
    whole, draw = path.read_bytes(), random.Random(seed)
    for place in [draw.randrange(len(whole)) for _ in range(300)] + [-draw.randrange(1, 1000) for _ in range(300)]:
        content = bytearray(whole)
        content[place] ^= 1 << draw.randrange(8)
        path.write_bytes(content)
        try:
            found = load_checkpoint(path)
        except ValueError:
            continue
        assert found["step"] == 5
        assert all(torch.equal(found["network"][name], value) for name, value in checkpoint["network"].items())


class Evil:
    """What runs code when it is unpickled."""

    def __init__(self, path: str):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def of_version_2(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(b"vitcnn checkpoint 2 %s 5\n%s" % (hashlib.sha256(content).hexdigest().encode(), content))


def of_version_4(path: Path) -> None:
    torch.save(load_checkpoint(path) | {"format": "vitcnn checkpoint 4"}, path)


def evil(path: Path) -> None:
    save_checkpoint({"step": 5, "evil": Evil(str(path.with_name("pwned")))}, path)
    path.with_name("before.ckpt").unlink()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (of_version_2, "a checkpoint of an earlier version of vitcnn; quarantined as last.ckpt.broken"),
        (of_version_4, "not a checkpoint of this version"),
        (evil, "not a checkpoint: it contains more than tensors and plain values"),
    ],
)
def test_a_checkpoint_of_another_version_or_a_strangers_is_refused_in_a_sentence(change, why, cell, paths):
    last = interrupted(cell, paths, 5)
    change(last)
    with pytest.warns(UserWarning, match=f"vit-n50-s0 starts again: .*{why}"):
        record = train_cell(cell, paths=paths)
    assert record.cost.resumed == 0
    assert not last.with_name("pwned").exists()
