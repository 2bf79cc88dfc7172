"""A function that gives no network is refused with what is wrong, before anything is trained."""

import pytest
from building import DIGITS, IMPORTED_STUDY

from vitcnn.errors import ConfigError
from vitcnn.launch.check import check

NETS = """
from torch import nn

seen = []


def build(**given):
    return nn.Sequential(nn.Flatten(), nn.Linear(given["channels"] * given["image_size"] ** 2, given["classes"]))


def constant(**_):
    return {"no": "module"}


def short(channels, image_size, **_):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size**2, 3))


class Pair(nn.Flatten):
    def forward(self, x):
        return x, x


def pair(**_):
    return Pair()


def stubborn(**_):
    return nn.Linear(12345, 10)
"""


WRITE = "write import:MODULE:FUNCTION, such as import:nets:build for build() in nets.py"
NAMES = "import:nets import:nets: import:nets:build() import:nets:build:more import:nets:1 import: import::build"
NAMES += " import:..nets:build import:nets.py:build import:nets/deep:build"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys\nbuild = None\nsys.exit(0)\n",
         r"import:ends:build: it exits \(SystemExit: 0\) when imported or called \(ends.py, line 3\)"),
        ("def build(**_):\n    raise SystemExit('bye')\n", r"SystemExit: bye\) .* \(ends.py, line 2\)"),
        ("def build(**_):\n    return {}['x']\n", r"import:ends:build: KeyError: 'x' \(ends.py, line 2\)"),
        ("import torch\n\n\nclass N(torch.nn.Linear):\n    def forward(self, x):\n        raise SystemExit\n\n\n"
         "def build(**_):\n    return N(1, 1)\n", r"import:ends:build at 8 pixels: it exits .*line 6"),
    ],
)  # fmt: skip
def test_a_script_that_ends_the_program_is_refused_with_the_line(own, study, code, said):
    own(code, "ends.py")
    loaded = study("models={mine: {arch: 'import:ends:build'}, linear: {}}", text=IMPORTED_STUDY)
    with pytest.raises(ConfigError, match=said):
        check(loaded, DIGITS, [], "cpu")


@pytest.mark.parametrize(
    ("arch", "said"),
    [
        ("import:nowhere:build", "models.mine: no module 'nowhere' on Python's path or in {folder}"),
        ("import:nets.deeper:build", "models.mine: no module 'nets.deeper' on Python's path or in {folder}"),
        ("import:plain:build", "models.mine: module 'plain' has no source file"),
        *((name, f"models.mine: {WRITE}, not '{name}'") for name in NAMES.split()),
    ],
)
def test_what_names_no_module_is_refused_when_the_study_is_read(own, study, tmp_path, arch, said):
    own()
    own("", "plain/readme.txt")
    with pytest.raises(ConfigError) as caught:
        study(f"models={{mine: {{arch: '{arch}'}}}}", text=IMPORTED_STUDY)
    assert str(caught.value).startswith(f"{tmp_path / 'small.yaml'}: ")
    assert said.format(folder=tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("biuld", {}, "import:nets:biuld: AttributeError: module 'nets' has no attribute 'biuld'"),
        ("seen", {}, "import:nets:seen: TypeError: 'list' object is not callable"),
        (
            "short",
            {"image_size": 4},
            "import:nets:short: TypeError: .*multiple values for keyword argument 'image_size'",
        ),
        ("constant", {}, "import:nets:constant returned dict, not an nn.Module"),
        ("short", {}, r"the output for one image is \(1, 3\), not logits of shape \(1, 10\)"),
        ("pair", {}, r"the output for one image is tuple, not logits of shape \(1, 10\)"),
        ("stubborn", {}, "import:nets:stubborn at 8 pixels: RuntimeError: "),
    ],
)
def test_what_is_no_network_for_the_data_is_refused_before_anything_is_trained(own, study, name, options, said):
    own()
    loaded = study(f"models={{mine: {{arch: 'import:nets:{name}', options: {options}}}}}", text=IMPORTED_STUDY)
    with pytest.raises(ConfigError, match=said):
        check(loaded, DIGITS, [], "cpu")


def test_a_key_that_an_imported_model_does_not_have_names_the_nearest_and_none_that_is_filled_in(own, study):
    own()
    with pytest.raises(ConfigError, match=r"unknown key 'option' in models\.mine; did you mean 'options'") as caught:
        study("models={mine: {arch: 'import:nets:build', option: {}}}", text=IMPORTED_STUDY)
    assert "source_sha256" not in str(caught.value)
