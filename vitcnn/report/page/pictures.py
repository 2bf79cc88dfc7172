"""Pictures inside the page, as data URIs: figures of the report that have no chart, and those of `look/`."""

import base64
from io import BytesIO
from pathlib import Path

from PIL import Image
from pydantic import TypeAdapter, ValidationError

from vitcnn.errors import ConfigError, Frozen

LARGE = 150_000  # bytes from which a picture is made smaller
SIDE = 1_400  # pixels
ROOM = 700_000  # bytes for all pictures of `look/` together


class Picture(Frozen):
    """An entry of `look/index.json`."""

    file: str
    title: str
    caption: str = ""


def data_uri(path: Path) -> str:
    """A PNG; a large one within `SIDE` pixels and in 256 colours. Raises OSError."""
    content = path.read_bytes()
    if len(content) > LARGE:
        small = BytesIO()
        with Image.open(BytesIO(content)) as image:
            image.thumbnail((SIDE, SIDE))
            image.convert("RGB").quantize(method=Image.Quantize.MAXCOVERAGE).save(small, format="png")
        content = min(content, small.getvalue(), key=len)
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def pictures(folder: Path) -> tuple[list[tuple[Picture, str]], list[Picture]]:
    """(pictures with their data URIs, those that have no room in the page); empty without an `index.json`. Raises
    ConfigError if it is damaged, or names a file that is not a PNG in the folder."""
    index = folder / "index.json"
    if not index.exists():
        return [], []
    try:
        found = TypeAdapter(list[Picture]).validate_json(index.read_bytes())
    except ValidationError as error:
        raise ConfigError(f"{index}: damaged ({error.errors()[0]['msg']}); delete it") from None
    inside, outside, room = [], [], ROOM
    for picture in found:
        path = folder / picture.file
        if path.resolve().parent != folder.resolve() or path.suffix != ".png" or not path.is_file():
            raise ConfigError(f"{index}: {picture.file!r} is not a PNG file in {folder}")
        uri = data_uri(path)
        room -= len(uri)
        (inside.append((picture, uri)) if room >= 0 else outside.append(picture))
    return inside, outside
