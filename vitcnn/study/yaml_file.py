"""YAML 1.2 by ruamel.yaml: plain values only, with limits on length, depth and alias expansion."""

import io
import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, DocumentStartEvent, ScalarEvent
from ruamel.yaml.nodes import ScalarNode

from vitcnn.system.files import open_file

LIMIT = 2**18  # bytes of a file, and characters with all aliases expanded
DEPTH = 50  # of nested lists and mappings
PLAINLY = {  # ruamel.yaml's messages: what to change
    r"found character '\\t'": "a tab; indent with spaces",
    r"mapping values are not allowed here": "`key: value` is not allowed here; check the indentation, or quote text"
    " that contains a colon",
    r"expected <block end>, but found '(<block|\?)": "the indentation differs from the lines above",
    r"but found another document": "a second document begins here (`---`); only one is allowed",
    r"expected ',' or '[]}]'": "a comma or a closing bracket is missing here or above",
    r"found unexpected end of stream": "an unclosed quote",
    r"could not find expected ':'": "a key without a colon, above this line",
}


class _Constructor(SafeConstructor):
    """Accepts numbers of at most 64 bits; dates stay strings."""

    def number(self, node: ScalarNode) -> int | float:
        try:
            value = self.construct_yaml_float(node) if node.tag.endswith(":float") else self.construct_yaml_int(node)
        except ValueError:  # more digits than Python reads, or none: `0x_`
            value = 2**64
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise MarkedYAMLError(problem="not a number of at most 64 bits", problem_mark=node.start_mark)
        return value


_Constructor.add_constructor("tag:yaml.org,2002:int", _Constructor.number)
_Constructor.add_constructor("tag:yaml.org,2002:float", _Constructor.number)
_Constructor.add_constructor("tag:yaml.org,2002:timestamp", _Constructor.construct_yaml_str)


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _Constructor
    yaml.default_flow_style, yaml.width, yaml.sort_base_mapping_type_on_output = False, 120, False
    return yaml


def parse(text: str) -> Any:
    """Raises ValueError, with line and column, for what is not YAML of plain values."""
    try:
        _check(text)
        return _yaml().load(text)
    except DuplicateKeyError as error:
        key = error.problem.split('"')[1]
        raise ValueError(_at(error, f"{key!r} appears twice")) from None
    except MarkedYAMLError as error:
        plain = next((message for pattern, message in PLAINLY.items() if re.search(pattern, error.problem)), None)
        raise ValueError(_at(error, plain or ", ".join(filter(None, (error.context, error.problem))))) from None
    except YAMLError as error:
        raise ValueError(f"not valid YAML: {str(error).splitlines()[0]}") from None


def _at(error: MarkedYAMLError, problem: str) -> str:
    return f"not valid YAML: line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}: {problem}"


def read(path: Path) -> Any:
    """The YAML of a file. Raises OSError, or ValueError if it is not valid."""
    with open_file(path) as file:
        content = file.read(LIMIT + 1)
    if len(content) > LIMIT:
        raise ValueError(f"larger than {LIMIT // 1024} KiB, too large for a study")
    try:
        return parse(content.decode())
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start:,} is not UTF-8; save the file as UTF-8 text") from None


def dump(value: Any) -> str:
    """YAML in block style, keys in their order."""
    text = io.StringIO()
    _yaml().dump(value, text)
    return text.getvalue()


def _check(text: str) -> None:
    """Raises MarkedYAMLError if nesting is too deep or the expanded text too long, before any object is built."""
    size, sizes = 0, {}  # of all so far; by anchor, None while it is open
    opened: list[tuple[str | None, int]] = []
    for event in _yaml().parse(text):
        problem = None
        if isinstance(event, DocumentStartEvent) and event.version:
            problem = "remove the line `%YAML`; files are read as YAML 1.2"
        elif getattr(event, "tag", None):
            problem = f"a tag ({event.tag}); only plain values are allowed"
        elif isinstance(event, ScalarEvent | CollectionStartEvent) and event.anchor in sizes:
            problem = f"a second anchor &{event.anchor}"
        elif isinstance(event, AliasEvent) and event.anchor in sizes:
            if sizes[event.anchor] is None:
                problem = "an alias inside its own anchor"
            else:
                size += sizes[event.anchor]
        elif isinstance(event, ScalarEvent):
            size += 1 + len(event.value)
            if event.anchor:
                sizes[event.anchor] = 1 + len(event.value)
        elif isinstance(event, CollectionStartEvent):
            opened.append((event.anchor, size))
            size += 1
            if event.anchor:
                sizes[event.anchor] = None
            if len(opened) > DEPTH:
                problem = f"nested more than {DEPTH} deep"
        elif isinstance(event, CollectionEndEvent):
            anchor, before = opened.pop()
            if anchor:
                sizes[anchor] = size - before
        if size > LIMIT:
            problem = f"more than {LIMIT:,} characters with all aliases"
        if problem:
            raise MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
