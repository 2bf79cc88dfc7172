"""A report's Markdown as the sections of a page: the same words and numbers, in HTML with captions and scopes.

The text is that of `report.report`. Whatever is in it that looks like HTML is shown as text.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

LONG = 40  # letters in a cell, from which it is words rather than a number
OUTCOMES = {"supported", "contradicted", "undecided", "not tested"}
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")


@dataclass(frozen=True)
class Block:
    """A paragraph, list or table as HTML, or a figure by its file's name. `strong`: a paragraph in bold."""

    kind: Literal["paragraph", "list", "table", "figure"]
    html: str = ""  # Markup
    caption: str = ""  # of a table, and what a figure shows
    file: str = ""
    strong: bool = False


@dataclass
class Section:
    """A heading with what stands below it, up to the next of its level."""

    title: str
    slug: str
    blocks: list[Block] = field(default_factory=list)
    parts: list["Section"] = field(default_factory=list)

    def take(self, title: str) -> "Section | None":
        """Removes and returns a part; None where there is none of that title."""
        found = next((part for part in self.parts if part.title == title), None)
        if found:
            self.parts.remove(found)
        return found


def sections(text: str) -> Section:
    """Of a whole report; its title is that of the report, its parts are the sections of level 2."""
    root, path, slugs = Section("", "top"), {}, set()
    here = root
    for group in _groups(_MARKDOWN.parse(text)):
        if group[0].type != "heading_open":
            here.blocks.append(_block(group, here.title, here.blocks))
            continue
        title, level = _plain(group[1]), int(group[0].tag[1])
        if level == 1:
            root.title = title
            continue
        here = Section(title, _slug(title, slugs))
        (path.get(level - 1) or root).parts.append(here)
        path[level] = here
    return root


def _groups(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """The tokens of each block of the outermost level."""
    group: list[Token] = []
    for token in tokens:
        group.append(token)
        if not token.level and token.nesting <= 0:
            yield group
            group = []


def _plain(inline: Token) -> str:
    """The text of a line, without marks."""
    return "".join(child.content for child in inline.children or ())


def _slug(title: str, taken: set[str]) -> str:
    """For links to a heading: letters, digits and hyphens; each once."""
    base = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"
    slug, count = base, 1
    while slug in taken:
        count += 1
        slug = f"{base}-{count}"
    taken.add(slug)
    return slug


def _block(group: list[Token], title: str, before: Sequence[Block]) -> Block:
    first = group[0].type
    if first == "table_open":
        lead = _lead(before)
        return Block("table", _table(group, lead or title), lead or title)
    if first == "bullet_list_open":
        _mark_outcomes(group)
        return Block("list", _html(group))
    children = [child for child in group[1].children or () if child.type != "text" or child.content]
    if [child.type for child in children] == ["image"]:
        return Block("figure", caption=_plain(children[0]), file=str(children[0].attrs["src"]))
    return Block("paragraph", _html(group), _plain(group[1]), strong=children[0].type == "strong_open")


def _lead(before: Sequence[Block]) -> str:
    """The paragraph right above a table says what is in it."""
    return before[-1].caption.removesuffix(":") if before and before[-1].kind == "paragraph" else ""


def _html(tokens: Sequence[Token]) -> Markup:
    return Markup(_MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {}))


def _table(group: list[Token], caption: str) -> Markup:
    """With a caption, and the first cell of each row as its heading."""
    for place, token in enumerate(group):
        if token.type == "th_open":
            token.attrSet("scope", "col")
        if token.type == "td_open" and group[place - 1].type == "tr_open":
            token.tag = group[place + 2].tag = "th"  # with the text and the end of it
            token.attrSet("scope", "row")
    if any(len(text.content) > LONG for cell, text in pairwise(group) if cell.type == "td_open"):
        group[0].attrSet("class", "words")
    opening, rest = _html(group[:1]), _html(group[1:])
    return opening + Markup("<caption>{}</caption>").format(caption) + rest


def _mark_outcomes(group: Sequence[Token]) -> None:
    """A class for the outcome of each claim: `**supported**`."""
    for inline in group:
        children = inline.children or []
        for mark, text in pairwise(children):
            if mark.type == "strong_open" and text.content in OUTCOMES:
                mark.attrSet("class", f"outcome {text.content.replace(' ', '-')}")
