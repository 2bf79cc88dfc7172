"""`vitcnn predict`: image files are classified as the test images were when the cell was scored."""

import io

import numpy as np
import pytest
from PIL import Image
from synthetic import make_study

from vitcnn.data.sources.fetch import load
from vitcnn.data.sources.registry import parse_dataset
from vitcnn.errors import ConfigError
from vitcnn.inspect.predict import predict
from vitcnn.launch.worker import Options, work
from vitcnn.store.records import read_record

TEXT = """
dataset: digits
sizes: [200]
seeds: 1
models:
  vit: {width: 16, depth: 1, heads: 1}
  cnn: {channels: [8, 16], blocks: [1, 1]}
  moved: {arch: timm/test_resnet, image_size: 32}
  linear: {C: [1.0]}
budget: {images_seen: 640}
recipe: {batch_size: 32, lr: 0.01}
"""


@pytest.fixture(scope="module", params=["", "permutation={patches: 1, pixels: 1}"], ids=["plain", "permuted"])
def trained(request, tmp_path_factory):
    """(cells by model, paths, files of the first 130 test images)."""
    home = tmp_path_factory.mktemp("predict")
    overrides = [request.param] if request.param else []
    _, all_cells, paths = make_study(home, *overrides, text=TEXT, name="nets")
    for cell in all_cells:
        work((cell,), paths, Options(device="cpu", tracking="off", keep_weights=True))
    files = []
    for k, image in enumerate(load(parse_dataset("digits")).arrays.test_images[:130]):
        files.append(home / "images" / f"{k:03}.png")
        files[-1].parent.mkdir(exist_ok=True)
        Image.fromarray(image[..., 0]).save(files[-1])
    return {cell.model: cell for cell in all_cells}, paths, files


@pytest.mark.parametrize("model", ["vit", "cnn", "moved"])
def test_test_images_as_files_get_the_classes_of_the_record(model, trained):
    by_model, paths, files = trained
    found = list(predict(by_model[model], paths, files))
    assert [one.file for one in found] == files
    recorded = read_record(paths.record(by_model[model].id)).test.classes()
    assert [int(one.classes[0][0]) for one in found] == recorded[:130].tolist()
    for one in found:
        chances = [chance for _, chance in one.classes]
        assert sum(chances) == pytest.approx(1)
        assert chances == sorted(chances, reverse=True)
        assert sorted(name for name, _ in one.classes) == sorted(map(str, range(10)))


def test_the_predicted_classes_of_a_record_are_those_of_its_bits(trained):
    by_model, paths, _ = trained
    labels = load(parse_dataset("digits")).arrays.test_labels
    for cell in by_model.values():
        test = read_record(paths.record(cell.id)).test
        assert np.array_equal(test.classes() == labels, test.correct())


def test_files_of_any_size_and_mode_and_folders_of_them_are_classified(trained, tmp_path):
    by_model, paths, files = trained
    grey = Image.open(files[0])
    odd = {
        "large.png": grey.resize((80, 80), Image.Resampling.NEAREST),
        "colour.webp": grey.convert("RGB"),
        "deep.tif": Image.fromarray(np.asarray(grey).astype(np.uint16) * 257),
        "glass.png": grey.convert("RGBA"),
        "wide.bmp": Image.new("L", (300, 20), 128),
    }
    for name, image in odd.items():
        image.save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
    found = {one.file.name: one for one in predict(by_model["cnn"], paths, [tmp_path])}
    assert found.keys() == odd.keys()
    (plain,) = predict(by_model["cnn"], paths, files[:1])
    for name in ("colour.webp", "deep.tif", "glass.png"):
        assert dict(found[name].classes) == pytest.approx(dict(plain.classes), abs=1e-6)


def test_a_file_that_cannot_be_read_is_said_and_the_others_are_classified(trained, tmp_path, vitcnn):
    by_model, paths, files = trained
    (tmp_path / "broken.png").write_bytes(b"no image")
    found = list(predict(by_model["vit"], paths, [tmp_path / "broken.png", files[0]]))
    assert found[0].classes == []
    assert found[0].error.startswith("UnidentifiedImageError")
    assert found[1].classes


def test_the_command_prints_one_line_an_image(trained, tmp_path, vitcnn):
    by_model, paths, files = trained
    cell = by_model["cnn"]
    study = paths.results.parent / "nets.yaml"
    changes = [f"permutation={cell.permutation.model_dump_json()}"] if cell.permutation else []
    where = ["--results", paths.results, "--runs", paths.runs]
    code, out, err = vitcnn("predict", study, files[0], files[1], *changes, "--cell", cell.title, "--top", 2, *where)
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 2
    for line, one in zip(out.splitlines(), predict(cell, paths, files[:2]), strict=True):
        (first, chance), (second, _) = one.classes[:2]
        assert line.startswith(f"{one.file}: {first} {chance:.1%}, {second} ")
    (tmp_path / "broken.png").write_bytes(io.BytesIO(b"no image").getvalue())
    code, _, err = vitcnn("predict", study, "broken.png", *changes, "--cell", cell.title, *where)
    assert (code, "broken.png: UnidentifiedImageError" in err) == (1, True)


@pytest.mark.parametrize(("given", "said"), [("nowhere.png", "no such file"), (".", "no images in this folder")])
def test_what_is_not_there_is_a_sentence(given, said, trained, tmp_path, monkeypatch):
    by_model, paths, _ = trained
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=said):
        list(predict(by_model["vit"], paths, [given]))


def test_logistic_regression_is_no_network(trained):
    by_model, paths, files = trained
    with pytest.raises(ConfigError, match="logistic regression is not a network"):
        list(predict(by_model["linear"], paths, files))
