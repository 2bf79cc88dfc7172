"""Studies that begin with another study's weights, run by commands: which study comes first, and what is refused."""

import shutil

from PIL import Image
from pretraining import AFTER, BEFORE


def test_a_run_says_which_study_to_run_first_and_then_goes_through(vitcnn, study, tmp_path):
    study(text=BEFORE, name="before.yaml")
    study(text=AFTER, name="after.yaml")
    some = ["seeds=1", "sizes=[100]", "models={vit-50: {arch: vit, width: 32, depth: 1, heads: 2, "
            "pretrain: {study: before.yaml, n: 50}}}"]  # fmt: skip
    two, how = ["seeds=2", *some[1:]], ["--wandb", "off", "--workers", "1"]
    code, _, err = vitcnn("run", "after.yaml", *some, *how)
    assert code == 2
    assert "of before, which is not trained yet: `vitcnn run` that study first, with --keep-weights" in err
    assert vitcnn("run", "before.yaml", "models={vit: {width: 32, depth: 1, heads: 2}}", *how)[0] == 0
    code, _, err = vitcnn("run", "after.yaml", *two, *how)
    said, *records = err.splitlines()
    assert code == 2
    assert said.startswith("vitcnn: 2 cells (vit-50-n100-s0 and others) need the weights of cells, which were not kept")
    code, out, _ = vitcnn("plan", "after.yaml", *two)
    assert (code, "`vitcnn run` cannot start yet: 2 cells (vit-50-n100-s0 and others)" in out) == (0, True)
    assert len(records) == 2
    for record in records:
        (tmp_path / record.strip()).unlink()
    assert vitcnn("run", "before.yaml", "seeds=1", "sizes=[50]", "models={vit: {width: 32, depth: 1, heads: 2}}",
                  "--keep-weights", *how)[0] == 0  # fmt: skip
    assert vitcnn("run", "after.yaml", *some, *how)[0] == 0
    assert len(list((tmp_path / "results/after/records").glob("*.json"))) == 1


def test_other_tokens_than_before_are_refused_before_anybody_is_sent_to_train_the_other_study(vitcnn, study):
    study(text=BEFORE, name="before.yaml")
    study(text=AFTER, name="after.yaml")
    fractals = "dataset: 'fractals:size=96,classes=10,test=50'"
    study(text=BEFORE.replace("dataset: digits", fractals).replace("[50, 200]", "[100]"), name="small.yaml")
    some = "models={v: {arch: vit, width: 32, depth: 1, heads: 2, pretrain: {study: small.yaml, n: 100}}}"
    for command in (("plan",), ("run", "--wandb", "off")):
        code, _, err = vitcnn(command[0], "after.yaml", some, "seeds=1", *command[1:])
        assert code == 2
        assert (
            "models.v: vit takes images of 64 pixels here and of 96 in small.yaml; give both the same image_size" in err
        )


def test_images_of_a_folder_may_come_before_in_another_size_and_be_gone_when_the_report_is_written(
    vitcnn, study, tmp_path
):
    for k in range(24):
        path = tmp_path / "pets" / ("cat", "dog")[k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (10 * k, 0, 0)).save(path)
    text = "dataset: folder:pets\nseeds: 1\nvalidation: 4\nbudget: {images_seen: 32}\nrecipe: {batch_size: 8}\n"
    vit = "vit: {width: 32, depth: 1, heads: 2}"
    begun = "later: {arch: vit, width: 32, depth: 1, heads: 2, pretrain: {study: before.yaml, n: 8}}"
    study(text=f"{text}resolution: 16\nsizes: [8]\nmodels: {{{vit}}}\n", name="before.yaml")
    study(text=f"{text}resolution: 24\nsizes: [6]\nmodels: {{{vit}, {begun}}}\n", name="after.yaml")
    how = ["--wandb", "off", "--workers", "1", "--data-dir", "cache"]
    assert vitcnn("run", "before.yaml", "--keep-weights", *how)[0] == 0
    code, _, err = vitcnn("run", "after.yaml", "resolution=96", *how)
    assert (code, "models.later: vit takes images of 96 pixels here and of 64 in before.yaml; give both" in err) == (
        2,
        True,
    )
    assert vitcnn("run", "after.yaml", *how)[0] == 0
    shutil.rmtree(tmp_path / "pets")
    shutil.rmtree(tmp_path / "cache")
    assert vitcnn("report", "after.yaml")[0] == 0
    assert "## Pre-training" in (tmp_path / "results/after/report.md").read_text()
