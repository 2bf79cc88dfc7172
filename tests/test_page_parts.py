"""Names in a page stay text; colours and markers can be told apart; pictures are checked before they are shown."""

import base64
import json
import re

import pytest
from paging import CLASS, CNN, SWIN, VIT, Page, evil
from PIL import Image
from synthetic import every, make_study, write

from vitcnn.errors import ConfigError
from vitcnn.report.figures import BASELINE, MARKERS, PALETTE
from vitcnn.report.page.blocks import sections
from vitcnn.report.page.looks import DARK, READABLE, contrast, in_the_dark, svg_path
from vitcnn.report.page.page import Source, page_html
from vitcnn.report.page.pictures import LARGE, ROOM, data_uri, pictures
from vitcnn.report.report import read_report


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return Page(page_html(*evil(tmp_path_factory.mktemp("evil"))))


# ---- names ----


def test_names_stay_text(page):
    for name in (VIT, CNN, SWIN, CLASS):
        assert " ".join(name.split()) in page.text
    assert "c49<img" not in page.text
    assert len(page.scripts) == 3
    assert not [attrs for attrs in page.all("img") if attrs.get("src") == "x"]
    assert {attrs["class"] for attrs in page.all("svg")} == {"swatch"}
    json_part = next(text for attrs, text in page.scripts if attrs.get("id") == "specs")
    assert "<" not in json_part
    assert page.open == []


def test_a_spec_treats_names_as_data_and_never_as_an_expression(page):
    for spec in page.specs.values():
        for name in (VIT, CNN, SWIN, CLASS):
            assert not [text for text in expressions(spec) if name in text]
        assert "$schema" in spec


def expressions(part):
    """What Vega evaluates: filters, calculations, tests, expressions."""
    if isinstance(part, dict):
        for key, value in part.items():
            if key in ("filter", "calculate", "test", "expr", "labelExpr", "signal") and isinstance(value, str):
                yield value
            elif key != "datasets":
                yield from expressions(value)
    elif isinstance(part, list):
        for value in part:
            yield from expressions(value)


def test_headings_become_links_each_once():
    found = sections("# t\n\n## A <b>\n\ntext\n\n## a b\n\n## **!**\n\n### inner\n\n- x\n")
    assert (found.title, [part.slug for part in found.parts]) == ("t", ["a-b", "a-b-2", "section"])
    assert [part.title for part in found.parts[2].parts] == ["inner"]
    assert found.parts[0].blocks[0].html == "<p>text</p>\n"


# ---- looks ----


def test_every_colour_can_be_seen_in_the_dark():
    dark = in_the_dark()
    assert len(dark) < len(PALETTE)
    for color in (*PALETTE, BASELINE):
        assert contrast(dark.get(color, color), DARK) >= READABLE


def test_every_marker_is_a_shape_of_its_own():
    paths = [svg_path(marker) for marker in MARKERS + "x"]
    assert len(set(paths)) == len(paths)
    for path in paths:
        numbers = [float(x) for x in re.findall(r"-?\d+\.\d+", path)]
        assert max(map(abs, numbers)) == 1.0
        assert len(numbers) >= 6


# ---- pictures ----


def look(folder, entries, size=(40, 40)):
    folder.mkdir()
    for entry in entries:
        noise = Image.effect_noise(size, 90).convert("RGB")
        noise.save(folder / entry["file"])
    (folder / "index.json").write_text(json.dumps(entries))


def test_pictures_of_look_stand_in_the_page_with_their_words(tmp_path):
    study, all_cells, paths = make_study(tmp_path)
    write(every(all_cells, lambda _: 0.5), paths)
    look(paths.report / "look", [{"file": "a.png", "title": "Heads <b>", "caption": "of the & ViT"}])
    page = Page(page_html(read_report(study, all_cells, paths), Source(tmp_path / "trio.yaml")))
    assert "What the models look at" in page.text
    assert "Heads <b> of the & ViT" in page.text
    (image,) = page.all("img")
    assert image["alt"] == "Heads <b>"
    assert base64.b64decode(image["src"].split(",")[1]) == (paths.report / "look" / "a.png").read_bytes()


def test_a_large_picture_is_made_smaller_and_too_many_are_named_instead(tmp_path):
    entries = [{"file": f"{k}.png", "title": f"picture {k}"} for k in range(3)]
    look(tmp_path / "look", entries, size=(900, 900))
    big = (tmp_path / "look" / "0.png").stat().st_size
    assert big > LARGE
    assert len(data_uri(tmp_path / "look" / "0.png")) < big
    inside, outside = pictures(tmp_path / "look")
    assert len(inside) + len(outside) == 3
    assert sum(len(uri) for _, uri in inside) <= ROOM
    assert outside


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("[", "damaged"),
        ('[{"title": "x"}]', "damaged"),
        ('[{"file": "../secret.png", "title": "x"}]', r"'../secret.png' is not a PNG file in"),
        ('[{"file": "none.png", "title": "x"}]', "'none.png' is not a PNG file in"),
        ('[{"file": "index.json", "title": "x"}]', "'index.json' is not a PNG file in"),
    ],
)
def test_an_index_that_is_damaged_or_leads_elsewhere_is_a_sentence(index, message, tmp_path):
    (tmp_path / "look").mkdir()
    (tmp_path / "secret.png").write_bytes(b"x")
    (tmp_path / "look" / "index.json").write_text(index)
    with pytest.raises(ConfigError, match=message):
        pictures(tmp_path / "look")
