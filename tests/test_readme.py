"""What README shows can be typed, its findings are those of the committed records, and it stays short."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from vitcnn.analysis.results import Results
from vitcnn.store.records import read_records
from vitcnn.study.load import load_study
from vitcnn.study.matrix import cells

HERE = Path(__file__).resolve().parents[1]
HOWTO = sorted(HERE.glob("configs/howto/*.md"))
READMES = [HERE / "README.md", HERE / "configs/README.md", *HOWTO, *sorted(HERE.glob("results/**/README.md"))]
TEXT = READMES[0].read_text(encoding="utf-8")
RESULTS = (HERE / "results/README.md").read_text(encoding="utf-8")
FINDINGS = re.search(r"^## Findings\n(.*?)^## ", TEXT, re.DOTALL | re.MULTILINE).group(1)
STUDIES = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = sorted(set(re.findall(r"^(?:\| `)?vitcnn +([a-z-]+)", TEXT, re.MULTILINE)))
QUOTED = {
    "cifar10/reference": (500, 45_000),
    "fashion-mnist/reference": (250,),
    "fractals/million": (10_000, 1_000_000),
}  # gaps at n
DECIMAL = r"(?<![\d.,])(?<!± )\d+\.\d+(?![\d.])"  # half-widths of intervals are not counted


def gaps(study: str) -> dict[int, float]:
    """CNN minus ViT in points of test accuracy, the mean over seeds, from the committed records."""
    loaded = load_study(HERE / f"configs/{study}.yaml")
    assert loaded.pair == ("cnn", "vit")
    found = Results.of(loaded, cells(loaded), read_records(HERE / f"results/{study}/records")[0])
    assert found.missing == []
    by_n = {n: list(found.gaps(n).values()) for n in loaded.sizes}
    return {n: 100 * sum(values) / len(values) for n, values in by_n.items()}


# ---- what is shown ----


@pytest.mark.parametrize("text", STUDIES)
def test_a_study_of_the_readme_loads(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "shown.yaml"
    file.write_text(text, encoding="utf-8")
    (tmp_path / "nets.py").write_text("def build(image_size, channels, classes, width): ...", encoding="utf-8")
    assert len(load_study(file).models) > 1


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.relative_to(HERE).as_posix())
def test_links_lead_somewhere(readme):
    links = re.findall(r"\]\(([^)#]+)\)", readme.read_text(encoding="utf-8"))
    assert links or readme in HOWTO
    assert [link for link in links if "://" not in link and not (readme.parent / link).exists()] == []


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.relative_to(HERE).as_posix())
def test_links_to_a_heading_find_it(readme):
    for file, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", readme.read_text(encoding="utf-8")):
        target = (readme.parent / file if file else readme).read_text(encoding="utf-8")
        headings = re.findall(r"^#+ (.*)$", target, re.MULTILINE)
        assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_command_stands_in_the_readme_and_no_other():
    help_ = [sys.executable, "-c", "from vitcnn.cli import main; main()", "--help"]
    shown = subprocess.run(help_, capture_output=True, text=True, check=True)
    assert sorted(re.findall(r"^│ ([a-z]\S*)", shown.stdout, re.MULTILINE)) == COMMANDS
    assert len(COMMANDS) > 8


def test_scripts_and_configs_exist():
    texts = "\n".join(readme.read_text(encoding="utf-8") for readme in READMES)
    named = set(re.findall(r"\b((?:scripts|configs)/[\w*./-]+[\w*])", texts))
    assert len(named) > 8
    assert [name for name in named if not list(HERE.glob(name))] == []


@pytest.mark.parametrize("guide", HOWTO, ids=lambda path: path.stem)
def test_every_guide_is_linked_from_both_readmes(guide):
    assert f"(configs/howto/{guide.name})" in TEXT
    assert f"(howto/{guide.name})" in READMES[1].read_text(encoding="utf-8")


# ---- what is found ----


def test_the_readme_is_short():
    assert len(TEXT.split()) <= 1_000


def test_the_numbers_of_the_findings_are_those_of_the_records():
    measured = {f"{gaps(study)[n]:.1f}" for study, sizes in QUOTED.items() for n in sizes}
    assert set(re.findall(DECIMAL, FINDINGS)) == measured


def test_the_tokens_of_the_findings_are_true_of_the_records():
    reference, fashion = gaps("cifar10/reference"), gaps("fashion-mnist/reference")
    assert "the CNN leads at every n" in FINDINGS
    assert min(reference.values()) > 0
    assert "Its lead grows" in FINDINGS
    assert reference[45_000] > reference[500]
    assert "by about 5 points from n = 4,000 on" in " ".join(FINDINGS.split())
    assert {round(gap) for n, gap in fashion.items() if n >= 4_000} == {5}


def test_a_number_of_the_findings_stands_in_the_readmes_twice_at_most():
    numbers = re.findall(DECIMAL, TEXT + RESULTS)
    found = set(re.findall(DECIMAL, FINDINGS))
    assert len(found) == 5
    assert {number: numbers.count(number) for number in found if numbers.count(number) > 2} == {}
