"""`vitcnn data list` and `data fetch`: what there is, what is fetched, and mistakes in one message."""

import re

import pytest
from pets import cats_and_dogs
from PIL import Image

from vitcnn.data.sources.registry import BUILT_IN
from vitcnn.data.sources.torchvision import SETS


def rows(out: str) -> dict[str, list[str]]:
    """The table of `data list`: name -> the other columns."""
    lines = [[cell.strip() for cell in line.strip("│").split("│")] for line in out.splitlines() if "│" in line]
    return {line[0]: line[1:] for line in lines}


# ---- list ----


def test_the_list_says_of_every_built_in_set_how_large_it_is_and_whether_it_is_fetched(vitcnn):
    code, out, _ = vitcnn("data", "list")
    assert code == 0
    assert rows(out) == {
        "digits": ["1,297 + 500", "8×8×1", "10", "yes"],
        "fashion-mnist": ["60,000 + 10,000", "28×28×1", "10", "no"],
        "cifar10": ["50,000 + 10,000", "32×32×3", "10", "no"],
        "cifar100": ["50,000 + 10,000", "32×32×3", "100", "no"],
    }
    for source in BUILT_IN.values():
        assert f"{source.info.name}: {source.info.source}; licence: {source.info.licence}\n" in out


def test_the_list_names_what_torchvision_has_and_ones_own_folders(vitcnn):
    _, out, _ = vitcnn("data", "list")
    line = next(line for line in out.splitlines() if line.startswith("torchvision:NAME"))
    assert set(re.findall(r"\w+", line.partition(": ")[2])) == set(SETS)
    assert "folder:PATH, your own images" in out
    assert (
        "\nfractals:OPTIONS, unlimited synthetic images; "
        "options with defaults and ranges: classes=100 (2 to 10,000), " in out
    )
    assert (
        " flips=1 (0 or 1), patch=1 (1 to 3), density=1 (more than 0 to 8), noise=0 (0 to 1), channels=1 (1 or 3)"
        in out
    )


def test_another_cache_folder_is_another_list(vitcnn, tmp_path):
    _, out, _ = vitcnn("data", "list", "--data-dir", tmp_path / "new")
    assert {name: columns[-1] for name, columns in rows(out).items()} == dict.fromkeys(BUILT_IN, "no")
    assert f"cache: {tmp_path / 'new'}" in out
    assert not (tmp_path / "new").exists()


def test_fetched_folders_are_listed_too_and_their_long_names_leave_room_for_the_rest(vitcnn, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    root = cats_and_dogs(tmp_path / "my [bold]pets[/b], all of them, in a folder with a long name")
    assert vitcnn("data", "fetch", f"folder:{root}", "--data-dir", "cache")[0] == 0
    _, out, _ = vitcnn("data", "list", "--data-dir", "cache")
    assert ["16 + 4", "8×8×3", "2", "yes"] in rows(out).values()
    assert rows(out)["cifar100"] == ["50,000 + 10,000", "32×32×3", "100", "no"]
    assert f"folder:{root}: {root}; licence: your own" in out


# ---- fetch ----


def test_fetching_says_what_it_does_and_that_there_is_nothing_to_do(vitcnn, tmp_path):
    name = f"folder:{cats_and_dogs(tmp_path / 'pets')}"
    _, out, _ = vitcnn("data", "fetch", name, "--data-dir", "cache")
    assert f"{name}: 16 + 4 images in cache/folder/pets-" in out
    assert "already" not in out
    _, out, _ = vitcnn("data", "fetch", name, "--data-dir", "cache")
    assert re.fullmatch(rf"{name} is already in cache/folder/pets-\w+\n", out)
    cats_and_dogs(tmp_path / "pets", 11)
    _, out, _ = vitcnn("data", "fetch", name, "--data-dir", "cache")
    assert "reading 23 images" in out
    assert "already" not in out


def test_broken_images_are_left_out_only_when_that_is_asked_for_at_the_resolution_that_is(vitcnn, tmp_path):
    root = cats_and_dogs(tmp_path / "pets")
    (root / "cat" / "0.png").write_text("no image")
    words = ("data", "fetch", f"folder:{root}", "--data-dir", "cache", "--resolution", "16")
    code, _, err = vitcnn(*words)
    assert code == 2
    assert f"  {root}/cat/0.png: UnidentifiedImageError" in err
    assert f"`vitcnn data fetch folder:{root} --resolution 16 --skip-unreadable`" in err
    code, out, _ = vitcnn(*words, "--skip-unreadable")
    assert code == 0
    assert f"1 unreadable images are left out:\n  {root}/cat/0.png" in out
    assert "already" in vitcnn(*words, "--skip-unreadable")[1]
    assert "already" in vitcnn(*words)[1]


def test_leaving_out_broken_images_means_nothing_where_there_are_none_to_read(vitcnn, data_folder):
    code, out, _ = vitcnn("data", "fetch", "digits", "--skip-unreadable")
    assert (code, out) == (0, f"digits is already in {data_folder / 'digits'}\n")


def test_of_a_data_set_that_is_made_nothing_is_fetched(vitcnn, tmp_path):
    code, out, _ = vitcnn("data", "fetch", "fractals:vary=0.1,classes=50", "--data-dir", "new")
    assert code == 0
    assert out.startswith("fractals:classes=50,vary=0.1: images are generated from seeds on demand;")
    assert list(tmp_path.iterdir()) == []


# ---- mistakes ----


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["show", "digits", "--augment", "flop"],
            "--augment: 'flop' is not a valid augmentation; did you mean 'flip'? known: ",
        ),
        (["show", "digits", "--augment", "shift:0"], "--augment: 'shift:0' is not a valid augmentation"),
        (["show", "digit"], "unknown data set 'digit'; did you mean 'digits'?"),
        (["fetch", "cifar"], "unknown data set 'cifar'; did you mean 'cifar"),
        (
            ["fetch", "torchvision:SVNH"],
            "torchvision:SVNH: not a classification set that downloads automatically; did you me",
        ),
        (["show", "folder:nowhere"], "/nowhere: no such folder"),
        (
            ["fetch", "digits", "--resolution", "16"],
            "resolution: digits has a fixed size of 8 pixels; `image_size` of a model",
        ),
    ],
)
def test_a_mistake_is_one_message_that_says_what_to_change_and_leaves_nothing_behind(vitcnn, tmp_path, words, said):
    code, out, err = vitcnn("data", *words, "--data-dir", "cache")
    assert (code, out) == (2, "")
    assert err.startswith("vitcnn: ")
    assert said in err
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_picture_of_a_kind_that_cannot_be_drawn_is_a_mistake(vitcnn, tmp_path):
    code, _, err = vitcnn("data", "show", "digits", "--out", "sheet.xyz")
    assert code == 2
    assert err.startswith("vitcnn: --out sheet.xyz: Format 'xyz' is not supported")


def test_a_folder_of_which_validation_takes_all_is_a_mistake_in_a_sentence(vitcnn, tmp_path):
    for split in ("train", "test"):
        for label in "abcd":
            path = tmp_path / "pets" / split / label / "0.png"
            path.parent.mkdir(parents=True)
            Image.new("RGB", (8, 8), (40 * ord(label) % 256, 100, 200)).save(path)
    code, _, err = vitcnn("data", "show", f"folder:{tmp_path / 'pets'}")
    assert code == 2
    assert "validation takes 4 of the 4 training images, so none are left to train on; add training images" in err


def test_a_subset_larger_than_the_data_set_is_a_mistake_too(vitcnn, tmp_path):
    code, _, err = vitcnn("data", "show", "digits", "--n", "1001")
    assert code == 2
    assert err == (
        "vitcnn: --n: 1,001 images requested, 1,000 available (digits has 1,297 training images, 297 of them held out "
        "for validation)\n"
    )
    assert list(tmp_path.iterdir()) == []
