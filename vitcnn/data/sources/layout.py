"""Which level of a folder is a class, and which is a split (train, val, test)."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from vitcnn.errors import ConfigError

SUFFIXES = {".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval", "evaluation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
LEVELS = ("{class}", "{split}", "*")  # of a layout; `*`: folders of any name; other levels: folders of that name
JUNK = {"@eadir", "@recycle", "#recycle", "#snapshot", "$recycle.bin", "__macosx", "__pycache__", "lost+found"}
CLASS, SPLIT_CLASS, CLASS_SPLIT = ("{class}",), ("{split}", "{class}"), ("{class}", "{split}")

Layout = tuple[str, ...]  # the folder levels below the root, outermost first


def split_of(name: str) -> str | None:
    """train, val or test, where a folder has a usual name of it: `Training`, `test_set`, `valid`, `dev` …"""
    letters = re.sub("[^a-z]", "", name.lower())
    return SPLITS.get(letters) or SPLITS.get(re.sub("(set|data|images|split)$", "", letters))


def layout_in(path: str) -> tuple[str, Layout | None]:
    """`photos/{split}/{class}` -> (`photos`, the layout); None where the path has none. Raises ConfigError."""
    parts = path.rstrip("/").split("/")
    begins = next((k for k, part in enumerate(parts) if part in LEVELS), None)
    if begins is None:
        return path, None
    levels = tuple(parts[begins:])
    if levels.count("{class}") != 1 or levels.count("{split}") > 1 or levels[-1] == "*":
        raise ConfigError(
            f"folder:{path}: a layout has one {{class}}, at most one {{split}}, and does not end in *: "
            "PATH/{class}, PATH/{split}/{class}, PATH/{class}/{split}, PATH/*/{class} or PATH/{class}/images"
        )
    return "/".join(parts[:begins]) or "/", levels


def detect(root: Path) -> Layout:
    """The layout of a folder. Raises ConfigError where it can be read in several ways, naming them, and as
    `check_links`."""
    check_links(root, folders(root))
    tops = {path.name: path for path in folders(root)}
    splits = {name: split for name in tops if (split := split_of(name))}
    if "train" not in splits.values():
        return _detect_below(root, list(tops.values()), splits)
    train = next(tops[name] for name, split in splits.items() if split == "train")
    others = [name for name, path in tops.items() if name not in splits and has_images(path)]
    nested = any(has_images(path) for path in folders(train))
    if not nested and len(others) > 1 and len(splits) == 1:
        return CLASS  # vehicles, one of them the train
    if not nested:
        raise ConfigError(
            f"folder:{root}: {plain(train.name)} is a usual name of training images, but has no class folders. Add "
            f"them; or, if {' and '.join(sorted(map(plain, tops)))} are the classes, write folder:{root}/{{class}}"
        )
    if others and len(splits) == 1:
        raise _several_ways(
            root,
            f"{plain(train.name)} and {', '.join(sorted(map(plain, others)))} can be classes, or {plain(train.name)} "
            "holds the classes",
            CLASS,
            SPLIT_CLASS,
        )
    return _check_classes_alike(root, folders(train), SPLIT_CLASS)


def _detect_below(root: Path, tops: list[Path], splits: dict[str, str]) -> Layout:
    """Where there is no folder of training images at the root."""
    if splits:
        name = plain(next(iter(splits)))
        raise ConfigError(
            f"folder:{root}: {name} is among the class folders; move the classes into a folder called train, "
            f"or rename {name}; if it is a class, write folder:{root}/{{class}}"
        )
    tops = [path for path in tops if has_images(path)]
    below = [{split_of(path.name) for path in folders(top) if has_images(path)} for top in tops]
    if below and all("train" in found and None not in found for found in below):
        return CLASS_SPLIT
    if any("train" in found and len(found) > 1 for found in below):
        raise _several_ways(root, "only some classes have folders of train and test images", CLASS, CLASS_SPLIT)
    return _check_classes_alike(root, tops, CLASS)


def _check_classes_alike(root: Path, classes: list[Path], layout: Layout) -> Layout:
    """Raises ConfigError where every class holds folders of the same names, which may be the classes, or only one of
    which may hold the images (the others masks)."""
    inside = [{path.name for path in folders(label) if has_images(path)} for label in classes]
    same = sorted(set.intersection(*inside)) if len(inside) > 1 else []
    if len(same) < 2:
        return layout
    tops, below = (", ".join(map(plain, names[:5])) for names in (sorted(p.name for p in classes), same))
    raise _several_ways(
        root,
        f"every one of {tops} has folders of the same names ({below}): these or those are the classes",
        layout,
        (*layout[:-1], "*", "{class}"),
        (*layout, same[0]),
    )


def _several_ways(root: Path, why: str, *layouts: Layout) -> ConfigError:
    ways = " or ".join(f"folder:{plain(root)}/{'/'.join(layout)}" for layout in layouts)
    return ConfigError(f"folder:{plain(root)} can be read in several ways: {why}. Write dataset: {ways}")


def check_links(root: Path, paths: Sequence[Path]) -> None:
    """Raises ConfigError for links that put one folder's images into another."""
    real: dict[Path, Path] = {}
    for path in paths:
        if (other := real.setdefault(path.resolve(), path)) is not path:
            names = f"{plain(path.name)} and {plain(other.name)}"
            raise ConfigError(f"folder:{root}: {names} are the same folder; remove the link")
    for place, path in real.items():
        if other := next((real[above] for above in place.parents if above in real), None):
            names = f"{plain(path.name)} is inside {plain(other.name)}"
            raise ConfigError(f"folder:{root}: {names}; remove the link")


def is_junk(name: str) -> bool:
    """Folders of other programs: thumbnails, versions, what was deleted."""
    return name.startswith(".") or name.lower() in JUNK


def folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not is_junk(path.name))


def images(folder: Path) -> Iterator[Path]:
    """Image files below a folder, by their suffix; not those of other programs' folders."""
    for where, below, names in os.walk(folder, onerror=_raise):
        below[:] = [name for name in below if not is_junk(name)]
        for name in names:
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                yield Path(where, name)


def has_images(folder: Path) -> bool:
    return next(images(folder), None) is not None


def junk(root: Path) -> list[str]:
    """`40 images in folders called @eaDir`, for each name."""
    counts = Counter[str]()
    for where, below, _ in os.walk(root, onerror=_raise):
        for name in filter(is_junk, below):
            for _, _, names in os.walk(Path(where, name)):
                counts[name] += sum(Path(file).suffix.lower() in SUFFIXES for file in names)
        below[:] = [name for name in below if not is_junk(name)]
    return [f"{n:,} image{'s' * (n > 1)} in folders called {plain(name)}" for name, n in sorted(counts.items()) if n]


def plain(name: str | Path) -> str:
    """A printable name; names may not be valid UTF-8."""
    return str(name).encode(errors="backslashreplace").decode()


def _raise(error: OSError) -> None:
    raise error
