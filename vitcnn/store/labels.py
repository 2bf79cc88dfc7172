"""The labels of a study's test images, kept beside its records, so that these can be read class by class."""

import zlib
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from vitcnn.errors import ConfigError, Frozen
from vitcnn.store.paths import StudyPaths, write_atomically
from vitcnn.store.records import pack_classes, unpack_classes


class Labels(Frozen):
    """`names`: of the classes; `packed`: the class of each test image, as `records.pack_classes` has it."""

    names: tuple[str, ...]
    packed: str

    def array(self) -> np.ndarray:
        """(images,) int64, official order."""
        return unpack_classes(self.packed)


def write_labels(paths: StudyPaths, names: tuple[str, ...], labels: np.ndarray) -> None:
    """Does nothing if they are there. Raises OSError."""
    if not paths.labels.exists():
        kept = Labels(names=names, packed=pack_classes(labels, len(names)))
        write_atomically(paths.labels, kept.model_dump_json() + "\n")


def read_labels(path: Path) -> Labels | None:
    """None if there are none, as of studies of earlier versions. Raises ConfigError if they are damaged."""
    try:
        kept = Labels.model_validate_json(path.read_bytes())
        if len(kept.names) <= kept.array().max(initial=0):
            raise ValueError("more classes than names")
    except FileNotFoundError:
        return None
    except (ValidationError, ValueError, zlib.error) as error:
        raise ConfigError(f"{path}: damaged ({str(error).splitlines()[0]}); delete it") from None
    return kept
