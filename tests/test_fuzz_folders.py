"""Whatever a folder of images holds, it is a data set or an error that names it."""

import io
import os
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from vitcnn.data.sources.cache import FetchError
from vitcnn.data.sources.fetch import fetch
from vitcnn.data.sources.registry import parse_dataset
from vitcnn.errors import ConfigError


def fuzz(examples: int):
    return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)


# ---- folders ----


def image(mode: str, size: tuple[int, int], form: str) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, form)
    return file.getvalue()


KINDS = [("RGB", 8, "PNG"), ("L", 1, "PNG"), ("CMYK", 5, "JPEG"), ("P", 8, "GIF"), ("I;16", 8, "PNG"), ("F", 4, "TIFF")]
GOOD = [image(mode, (side, 8), form) for mode, side, form in [*KINDS, ("RGBA", 3, "WEBP")]]
FOLDERS = st.sampled_from(
    ["cat", "Cat", "dog", "猫", "train", "test", "val", ".hidden", "x.jpg", "a b", os.fsdecode(b"\xe9")]
)
FILES = st.sampled_from(
    ["0.png", "1.jpg", "2.JPEG", "3.gif", "4.tiff", "5.webp", "n.txt", ".6.png", os.fsdecode(b"\xff.png")]
)
CONTENT = (
    st.sampled_from([*GOOD, *(good[: len(good) // 2] for good in GOOD), b"", b"text"])
    | st.binary(max_size=30)
    | st.tuples(st.sampled_from(GOOD), st.integers(0, 60), st.integers(0, 255)).map(
        lambda what: what[0][: what[1]] + bytes([what[2]]) + what[0][what[1] + 1 :]
    )
)
LINKS = st.sampled_from([".", "..", "cat", "0.png", "nowhere", "self"])
TREES = st.lists(
    st.tuples(st.lists(FOLDERS, max_size=3), FILES, CONTENT | LINKS.map(str) | st.just(None)), min_size=1, max_size=10
)


@fuzz(60)
@given(TREES, st.booleans())
@example([(["cat"], "0.png", GOOD[0]), (["dog"], "0.png", GOOD[0]), (["dog"], "1.jpg", "nowhere")], False)  # OSError
@example([([os.fsdecode(b"\xe9")], "0.png", GOOD[0])], False)  # an error that could not be printed
@example([(["cat"], "0.png", GOOD[0]), ([os.fsdecode(b"\xe9")], "0.png", GOOD[0])], True)  # ValidationError
@example([([], os.fsdecode(b"\xff.png"), "."), (["cat"], "0.png", None)], False)  # a link to the folder itself
def test_a_tree_of_odd_files_is_a_data_set_or_an_error_that_names_it(tree, skip):
    """Files of any content, links (to what their text says) and pipes (None) under any names."""
    with tempfile.TemporaryDirectory() as text:
        root, cache = Path(text) / "images", Path(text) / "cache"
        root.mkdir()
        for folders, name, content in tree:
            where = root.joinpath(*folders)
            if os.path.lexists(where / name):  # a pipe among them would wait for its reader
                continue
            try:
                where.mkdir(parents=True, exist_ok=True)
                if isinstance(content, bytes):
                    (where / name).write_bytes(content)
                elif content is None:
                    os.mkfifo(where / name)
                else:
                    (where / name).symlink_to(content)
            except OSError:  # a file or a link stands where a folder should
                continue
        said = []
        try:
            fetch(parse_dataset(f"folder:{root}"), cache, skip_unreadable=skip, log=said.append)
        except (ConfigError, FetchError) as error:
            said.append(str(error))
            assert str(root) in said[-1]
        "\n".join(said).encode()  # can be printed
