"""YAML as this package reads it: plain values, each key once, bounded in length, depth and what aliases stand for."""

import re
import reprlib
from pathlib import Path
from typing import Any

import yaml

LIMIT = 2**18  # bytes of a file, and characters of what it says with every alias written out
DEPTH = 50  # of lists and mappings in one another


class _Loader(yaml.SafeLoader):
    """Plain values only. A key stands in a mapping once, and what aliases stand for is bounded: before it is made."""

    size = depth = 0

    def __init__(self, text: str):
        super().__init__(text)
        self.sizes: dict[yaml.Node, int] = {}

    def compose_node(self, parent: Any, index: Any) -> yaml.Node:
        alias, mark, before = self.check_event(yaml.AliasEvent), self.peek_event().start_mark, self.size
        self.depth += 1
        if self.depth > DEPTH:
            raise yaml.MarkedYAMLError(problem=f"nested more than {DEPTH} deep", problem_mark=mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        if alias and node not in self.sizes:
            raise yaml.MarkedYAMLError(problem="an alias inside of what it stands for", problem_mark=mark)
        self.size += self.sizes[node] if alias else 1 + len(node.value) * isinstance(node, yaml.ScalarNode)
        if self.size > LIMIT:
            raise yaml.MarkedYAMLError(problem=f"more than {LIMIT:,} characters with all aliases", problem_mark=mark)
        if not alias:
            self.sizes[node] = self.size - before
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node, seen = super().compose_mapping_node(anchor), set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if (key.tag, key.value) in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} stands there twice", problem_mark=key.start_mark)
            seen.add((key.tag, key.value))
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except (ValueError, LookupError, TypeError, AttributeError):  # PyYAML's, on `!!int x` or 2026-99-99
            kind, what = node.tag.rpartition(":")[2], reprlib.repr(node.value)
            raise yaml.MarkedYAMLError(problem=f"{what} is no {kind}", problem_mark=node.start_mark) from None
        if re.search(r":(int|float)$", node.tag) and re.search(r"^[-+]?0\d|:", node.value):  # octal, or base 60
            problem = f"{node.value!r} is no plain number; if it is text, write it in quotes"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise yaml.MarkedYAMLError(problem="a number of more than 64 bits", problem_mark=node.start_mark)
        return value


# YAML 1.1 takes 1e5 for text
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), "-+.0123456789"
)


def parse(text: str) -> Any:
    """Raises ValueError, with line and column, for what is no YAML of plain values."""
    try:
        return _Loader(text).get_single_data()
    except yaml.YAMLError as error:
        raise ValueError(f"no valid YAML: {error}".replace('in "<unicode string>", ', "")) from None


def read(path: Path) -> Any:
    """The YAML of a file. Raises OSError, or ValueError for what is none."""
    with path.open("rb") as file:
        content = file.read(LIMIT + 1)
    if len(content) > LIMIT:
        raise ValueError(f"larger than {LIMIT // 1024} KiB; that is no study")
    try:
        return parse(content.decode())
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start:,} is not UTF-8; save the file as UTF-8 text") from None
