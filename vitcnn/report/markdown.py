"""Markdown, block by block. Text becomes Markdown here and nowhere else: every block takes plain text and escapes it.

Plain text may hold names and numbers of others' files. What stays is `**bold**` and `` `code` ``, which only look.
A report is its blocks, joined by line breaks.
"""

import re
from collections.abc import Iterable, Sequence

# what begins a heading, a quote, a list, a rule or a block of code at the start of a line, behind digits "1." or "1)"
_BEGINS = re.compile(r"^(\d{0,9})(?=#{1,6}(\s|$)|>|[-+*](\s|$)|(?<=\d)[.)](\s|$)|```|~~~|([-*_=]\s*){3,}$)")

_ENTITY = re.compile(r"&(?=#?\w+;)")  # the & of `&lt;`, which Markdown would show as <


def escape(text: str) -> str:
    """On one line, without anything that ends a cell, opens a tag, or makes a link or an image, also by reference."""
    text = _ENTITY.sub("&amp;", " ".join(text.splitlines())).replace("\\", "\\\\").replace("|", "\\|")
    text = text.replace("<", "&lt;")
    return text.replace("](", "]\\(").replace("]:", "]\\:")


def _line(text: str) -> str:
    """As `escape`, and without the beginning of a block of another kind."""
    return _BEGINS.sub(r"\1\\", escape(text).strip())


def heading(level: int, text: str) -> str:
    return f"{'#' * level} {escape(text)}\n"


def paragraph(*lines: str) -> str:
    return "\n".join(map(_line, lines)) + "\n"


def bullets(items: Iterable[str], depth: int = 0) -> str:
    """A list; with `depth` inside the item above it."""
    return "".join(f"{'  ' * depth}- {_line(item)}\n" for item in items)


def image(text: str, file: str) -> str:
    """A figure of the report's own folder."""
    return f"![{text}]({file})\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The first column to the left, the others to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(escape(cell) for cell in line) + " |" for line in lines) + "\n"


def join(blocks: Iterable[str]) -> str:
    """Blocks below each other; empty ones are left out."""
    return "\n".join(filter(None, blocks))
