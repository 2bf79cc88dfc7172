"""Which level of a folder is a class and which a split: read as meant, or refused with both readings."""

from collections import Counter

import pytest
from pets import noise, plant, save, shown
from PIL import Image

from vitcnn.data.sources.class_folders import find
from vitcnn.data.sources.registry import parse_dataset
from vitcnn.errors import ConfigError

TRAIN = ["train", "Train", "training", "training_set", "TrainSet", "train-images"]
OTHERS = ["test", "TEST", "testing", "test_set", "val", "Valid", "validation_set", "dev", "eval"]


@pytest.mark.parametrize("train", TRAIN)
@pytest.mark.parametrize("test", OTHERS)
@pytest.mark.parametrize("order", ["{split}/{label}", "{label}/{split}"])
def test_the_usual_names_of_splits_are_known_at_either_level(train, test, order, root):
    for split, count in {train: 2, test: 1}.items():
        plant(root, {order.format(split=split, label=label): count for label in ("cat", "dog")})
    found = find(root)
    assert Counter((f.split, f.label) for f in found.files) == {
        ("train", "cat"): 2,
        ("train", "dog"): 2,
        ("test", "cat"): 1,
        ("test", "dog"): 1,
    }
    assert found.test_from == f"the folder {test}"
    assert found.layout == tuple(order.replace("label", "class").split("/"))


@pytest.mark.parametrize(
    ("counts", "ways"),
    [
        ({"train": 3, "masks": 3}, ["{class}"]),
        ({"train": 3, "dev": 3}, ["{class}"]),
        ({"train/cat": 2, "train/dog": 2, "masks/cat": 2}, ["{class}", "{split}/{class}"]),
        ({"photo/cat": 2, "photo/dog": 2, "sketch/cat": 2, "sketch/dog": 2}, ["{class}", "*/{class}"]),
        ({"a/images": 2, "a/masks": 2, "b/images": 2, "b/masks": 2}, ["{class}", "*/{class}", "{class}/images"]),
        (
            {f"{s}/{d}/{c}": 2 for s in ("train", "test") for d in ("photo", "sketch") for c in ("cat", "dog")},
            ["{split}/{class}", "{split}/*/{class}"],
        ),
        ({"cat/train": 2, "cat/test": 1, "dog": 3}, ["{class}", "{class}/{split}"]),
    ],
)
def test_a_folder_that_can_be_read_in_several_ways_is_refused_and_each_way_can_be_chosen(counts, ways, root, read):
    plant(root, counts)
    with pytest.raises(ConfigError) as caught:
        find(root)
    for way in ways:
        assert f"folder:{root}/{way}" in str(caught.value)
    for way in [way for way in ways if "/{split}" not in way]:  # there dog has no folders of splits
        assert find(root, tuple(way.split("/"))).layout == tuple(way.split("/"))


def test_a_layout_in_the_name_is_followed(root, read):
    plant(root, {"photo/cat": 5, "photo/dog": 5, "sketch/cat": 5, "sketch/dog": 5})
    by_kind, by_animal = (read(f"{root}/{layout}").info for layout in ("{class}", "*/{class}"))
    assert (by_kind.class_names, by_animal.class_names) == (("photo", "sketch"), ("cat", "dog"))
    assert by_kind.train + by_kind.test == by_animal.train + by_animal.test == 20


def test_of_several_folders_in_a_class_one_can_be_chosen(root, read):
    """Images and their masks, of two splits."""
    plant(root, {f"{s}/{c}/{kind}": 2 for s in ("train", "test") for c in "ab" for kind in ("images", "masks")})
    with pytest.raises(ConfigError, match="several ways"):
        find(root)
    info = read(f"{root}/{{split}}/{{class}}/images").info
    assert (info.class_names, info.train, info.test) == (("a", "b"), 4, 4)
    assert sum("skipped: the folder masks beside images" in line for line in read.said) == 4


def test_annotations_beside_images_are_no_class(root):
    """YOLO's layout: no classes by folder."""
    plant(root, {"images/train": 3, "images/val": 3})
    (root / "labels" / "train").mkdir(parents=True)
    (root / "labels" / "train" / "0.txt").write_text("0 0.5 0.5 1 1")
    with pytest.raises(ConfigError, match=r"found 1 with images \(images\)"):
        find(root)


@pytest.mark.parametrize("layout", ["{split}", "{class}/*", "{class}/{class}", "{split}/{split}/{class}"])
def test_a_layout_without_sense_is_refused(layout, tmp_path):
    with pytest.raises(ConfigError, match=r"a layout has one \{class\}"):
        parse_dataset(f"folder:{tmp_path}/{layout}")


def test_a_part_of_a_name_in_braces_that_is_no_level_belongs_to_the_path(tmp_path):
    spec = parse_dataset(f"folder:{tmp_path}/{{kind}}")
    assert (spec.root, spec.layout) == (tmp_path / "{kind}", None)


@pytest.mark.parametrize("unlabelled", [{"test": 4}, {"test/images": 4}])
def test_a_test_folder_without_classes_is_no_test_set_and_val_serves(unlabelled, root, read):
    """ImageNet's and Kaggle's layout."""
    plant(root, {"train/cat": 4, "train/dog": 4, "val/cat": 2, "val/dog": 2} | unlabelled)
    info, arrays, _ = read(root)
    assert shown(info, arrays)[1] == {8: "cat", 9: "cat", 10: "dog", 11: "dog"}
    assert info.test_from == "the folder val, since test has no class folders"
    assert f"folder:{root}: skipped: the folder test, which has no class folders (4 images)" in read.said
    assert f"folder:{root}: test set: the folder val, since test has no class folders" in read.said


def test_where_only_train_has_classes_a_fifth_is_the_test_set_and_that_is_said(root, read):
    plant(root, {"train/cat": 5, "train/dog": 5, "test": 4})
    info = read(root).info
    assert (info.train, info.test) == (8, 2)
    assert info.test_from == "a stratified fifth of the images, since test has no class folders"


def test_val_that_joins_the_training_images_is_said(root):
    plant(root, {f"{split}/{label}": 2 for split in ("train", "val", "test") for label in ("cat", "dog")})
    assert find(root).test_from == "the folder test; val joins the training images"


@pytest.mark.parametrize("name", ["@eaDir", ".thumbnails", "__MACOSX", ".ipynb_checkpoints", "@Recycle"])
@pytest.mark.parametrize("where", ["{}", "cat/{}", "cat/deep/{}/more"])
def test_images_of_other_programs_are_passed_over_and_said(name, where, root, read):
    plant(root, {"cat": 5, "dog": 5, where.format(name): 3, "cat/deep": 1})
    info = read(root).info
    assert info.train + info.test == 11
    assert f"folder:{root}: skipped: 3 images in folders called {name}" in read.said


def test_one_folder_of_images_in_every_class_is_no_class(root):
    """Tiny ImageNet's training images."""
    plant(root, {"n01/images": 3, "n02/images": 3})
    assert {file.label for file in find(root).files} == {"n01", "n02"}


def test_a_folder_that_holds_all_classes_is_named(root):
    plant(root, {"images/cat": 3, "images/dog": 3})
    with pytest.raises(ConfigError, match=r"found 1 with images \(images\); if the folders in images are the classes"):
        find(root)


def test_a_link_to_the_whole_disk_is_not_followed_before_it_is_refused(root):
    plant(root, {"cat": 3})
    (root / "up").symlink_to("/")
    with pytest.raises(ConfigError, match="cat is inside up; remove the link"):
        find(root)


# ---- copies ----


def test_resized_and_recompressed_copies_of_training_images_in_the_test_set_are_found(root, read):
    for k in range(12):
        label = "cat" if k % 2 else "dog"
        save(photo(k), root / "train" / label / f"{k}.png")
        save(photo(100 + k), root / "test" / label / f"{k}.png")
    save(photo(1).resize((60, 60)), root / "test" / "cat" / "small.png")
    save(photo(2), root / "test" / "dog" / "again.jpg")
    (line,) = [line for line in read(root).info.warnings if "near copies" in line]
    assert line.startswith("2 of 14 test images are near copies of training images, by a perceptual hash (")
    assert "test/cat/small.png and train/cat/1.png" in line
    assert "test/dog/again.jpg and train/dog/2.png" in line


def test_other_images_are_no_near_copies(root, read):
    for k in range(40):
        save(photo(k), root / ("cat" if k % 2 else "dog") / f"{k}.png")
    assert not [line for line in read(root).info.warnings if "near copies" in line]


def photo(seed: int) -> Image.Image:
    """Smooth random colours, as of a photograph."""
    return noise(seed, (6, 6)).resize((128, 128), Image.Resampling.BICUBIC)
