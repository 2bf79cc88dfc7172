"""What README shows can be typed: its studies load, its links lead somewhere, its commands and scripts exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from vitcnn.study.load import load_study

HERE = Path(__file__).parents[1]
READMES = [HERE / "README.md", HERE / "configs/README.md", *sorted(HERE.glob("results/**/README.md"))]
TEXT = READMES[0].read_text(encoding="utf-8")
STUDIES = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = sorted(set(re.findall(r"^vitcnn +([a-z-]+)", TEXT, re.MULTILINE)))


@pytest.mark.parametrize("text", STUDIES)
def test_a_study_of_the_readme_loads(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "shown.yaml"
    file.write_text(text, encoding="utf-8")
    (tmp_path / "nets.py").write_text("def build(image_size, channels, classes, width): ...", encoding="utf-8")
    assert len(load_study(file).entrants) > 1


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.relative_to(HERE).as_posix())
def test_links_lead_somewhere(readme):
    links = re.findall(r"\]\(([^)#]+)\)", readme.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if "://" not in link and not (readme.parent / link).exists()] == []


def test_commands_exist():
    help_ = [sys.executable, "-c", "from vitcnn.cli import main; main()", "--help"]
    shown = subprocess.run(help_, capture_output=True, text=True, check=True)
    assert len(COMMANDS) > 8
    assert [command for command in COMMANDS if not re.search(rf"\b{command}\b", shown.stdout)] == []


def test_scripts_and_configs_exist():
    named = re.findall(r"\b((?:scripts|configs)/[\w*.-]+[\w*])", TEXT)
    assert len(named) > 8
    assert [name for name in set(named) if not list(HERE.glob(name))] == []
