"""A report of others' records, data set and costs, read as Markdown: their text is text."""

import json

import pytest
from markdown_it import MarkdownIt
from synthetic import SEARCH, every, make_study, write
from test_cost_report import some

from vitcnn.report.report import report_text
from vitcnn.store.costs import write_costs

EVIL = (
    "<script>x</script><!-- <iframe src='//evil.example'>",
    "![x](http://evil.example/x.png)",
    "[a]: http://evil.example/x.png",
    "![a] <http://evil.example> [b](javascript:x)",
    "# evil",
    "plain\n# evil\n\n## evil\n<img src=x>\n```",
    "```",
    "- evil",
    "| evil |\n| --- |",
    "===",
)


def seen(text: str) -> tuple[list[str], list[str]]:
    """(its headings; its raw HTML, blocks of code and quotes, and the addresses of its images and links)."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    headings = [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open"]
    inside = [token for block in tokens for token in (block, *(block.children or ()))]
    found = [token.content for token in inside if token.type.startswith(("html", "fence", "code_block", "blockquote"))]
    return headings, found + [
        str(token.attrs[key]) for token in inside for key in ("src", "href") if key in token.attrs
    ]


@pytest.mark.parametrize("search", [False, True])
@pytest.mark.parametrize("evil", EVIL)
def test_what_others_wrote_is_shown_and_is_nothing_else(evil, search, tmp_path):
    study, all_cells, paths = make_study(tmp_path, **({"text": SEARCH, "name": "search"} if search else {}))
    records, info = every(all_cells, lambda _: 0.5), study.dataset_spec.info
    paths.failures.mkdir(parents=True)

    def told(text: str) -> tuple[list[str], list[str]]:
        made = {text: text, "torch": text, "date": text}
        write((record.model_copy(update={"made_by": made}) for record in records[not search :]), paths)
        if not search:
            write_costs(some(study).model_copy(update={"machine": text, "memory_is": text, "made_by": made}), paths)
            paths.failure(records[0].id).write_text(json.dumps({"error": text}))
        return seen(report_text(study, all_cells, paths, info.model_copy(update={"made": text, "name": text})))

    assert told(evil) == told("harmless")
