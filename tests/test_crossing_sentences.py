"""Where curves cross and how many times the images are needed, in words."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from curves import FALLING, SIZES, evidence, lines, without

from vitcnn.analysis.crossing_claims import crossing, multiple
from vitcnn.analysis.evidence import Evidence
from vitcnn.analysis.reasons import SeedsDisagree
from vitcnn.analysis.verdict import verdict
from vitcnn.report import claims
from vitcnn.report.claims import words
from vitcnn.report.format import times
from vitcnn.store.records import pack_bits


def with_accuracy(known: Evidence, cell: tuple[str, int, int], accuracy: float) -> Evidence:
    """One cell's network right on so many of the test images, the first of them."""
    far = next(c for c in known.results.cells if (c.model, c.n, c.seed) == cell)
    record = known.results.records[far.id]
    right = np.arange(record.test.images) < accuracy * record.test.images
    test = record.test.model_copy(update={"accuracy": accuracy, "bits": pack_bits(right)})
    records = {**known.results.records, far.id: record.model_copy(update={"test": test})}
    return Evidence(replace(known.results, records=records))


# ---- in words ----

LOW, HIGH = [0.5, 0.55, 0.6, 0.65], [0.8, 0.85, 0.9, 0.95]


@pytest.mark.parametrize(
    ("cnn", "vit", "n", "says"),
    [
        (
            [0.7, 0.8, 0.85, 0.9],
            [0.6, 0.7, 0.8, 0.85],
            50,
            r"(1\.9|2\.\d) times the images \(95 %: 1\.\d to 2\.\d t",
        ),
        (HIGH, LOW, 50, r"more than 8\.0 times the images, the largest multiple measured\."),
        (HIGH, LOW, 200, r"more than 2\.0 times"),
        (LOW, HIGH, 50, r"no more than 1\.0 times the images\.$"),
        (LOW, HIGH, 200, r"no more than 0\.25 times the images\.$"),
        ([0.7] * 4, [0.725] * 4, 50, r"no more than 1\.0 times the images \(95 %: neither end measured\)\.$"),
        (
            [0.7, 0.75, 0.8, 0.8],
            [0.78, 0.7, 0.6, 0.6],
            50,
            r"no more than 1\.0 times the images\. With more images it fa",
        ),
        (
            [0.7] * 4,
            [0.65, 0.75, 0.65, 0.9],
            50,
            r"1\.\d times the images \(95 %: 1\.\d to .*\)\. With more images it",
        ),
        ([0.71] * 4, [0.7] * 4, 50, r"on average, more than 8\.0 times the images \(95 %: neither end measured\)\.$"),
    ],
)
def test_how_many_times_the_images_is_said_in_the_right_direction(tmp_path, cnn, vit, n, says):
    known = evidence(tmp_path, SIZES, cnn=cnn, vit=vit, spread=0.02 if cnn[0] == cnn[1] else 0.01)
    said = claims.multiple("cnn", "vit", multiple(lines(known, "cnn", "vit"), n))
    assert re.search(rf"^To match cnn at n = {n}, vit needs,? {says}", said), said


@pytest.mark.parametrize(
    ("value", "plain", "up", "down"),
    [(2.04, "2.0", "2.1", "2.0"), (1.1, "1.1", "1.1", "1.1"), (0.25, "0.25", "0.25", "0.25"),
     (1234.56, "1,234.6", "1,234.6", "1,234.5"), (0.0101, "0.010", "0.011", "0.010")],
)  # fmt: skip
def test_a_multiple_has_digits_enough_and_a_bound_is_rounded_to_its_safe_side(value, plain, up, down):
    assert (times(value), times(value, math.ceil), times(value, math.floor)) == (plain, up, down)


def met(known: Evidence) -> str:
    return words(crossing(lines(known, "cnn", "vit")))[1]


@pytest.mark.parametrize(
    ("cnn", "vit", "says"),
    [
        ([0.6, 0.7, 0.8, 0.85], [0.65, 0.65, 0.65, 0.9],
         r"^vit leads at n = 50, falls behind, and overtakes cnn at n ≈ 3\d\d \(95 %: .*; the interval covers"),
        ([0.7, 0.7, 0.7, 0.7], [0.6, 0.8, 0.6, 0.8], r"^vit overtakes cnn for the last time at n ≈ 2\d\d \("),
        ([0.7, 0.7, 0.7, 0.7], [0.6, 0.8, 0.8, 0.6], r"^vit overtakes cnn at n ≈ 7\d \(.*\. At n = 400 cnn leads a"),
        ([0.7, 0.7, 0.7, 0.7], [0.8, 0.8, 0.6, 0.6], r"^vit leads at n = 50, cnn at n = 400, by (9|10)\."),
    ],
)  # fmt: skip
def test_curves_that_meet_more_than_once_are_not_told_as_one_crossing(tmp_path, cnn, vit, says):
    said = met(evidence(tmp_path, SIZES, cnn=cnn, vit=vit))
    assert re.search(says, said), said


@pytest.mark.parametrize(
    ("cnn", "vit", "says"),
    [
        ([0.7, 0.7, 0.7, 0.7], [0.6, 0.6, 0.6, 0.7], r"^cnn leads at n = 50 by 10\.0.*, neither leads at n = 400\.$"),
        ([0.7, 0.7, 0.7, 0.7], [0.6, 0.7, 0.6, 0.6], r"^(No crossing up to n = 400. There cnn|cnn) leads"),
        (
            [0.7, 0.7, 0.7, 0.7],
            [0.7, 0.8, 0.8, 0.8],
            r"^neither leads at n = 50, vit leads at n = 400 by 10\.0[^;]*\.$",
        ),
        ([0.7, 0.7, 0.7, 0.7], [0.6, 0.8, 0.8, 0.7], r", neither leads at n = 400. The lead changes at n ≈ 71\.$"),
    ],
)
def test_a_tie_is_nobodys_lead_and_touching_is_no_overtaking(tmp_path, cnn, vit, says):
    known = evidence(tmp_path, SIZES, seeds=2, cnn=cnn, vit=vit)
    for accuracies, name in ((cnn, "cnn"), (vit, "vit")):
        for n, accuracy in zip(SIZES, accuracies, strict=True):
            for seed in (0, 1):
                known = with_accuracy(known, (name, n, seed), accuracy + 0.01 * seed)
    said = met(known)
    assert re.search(says, said), said
    assert "overtakes" not in said


def test_where_seeds_are_missing_the_place_is_left_out_and_the_ends_are_told(tmp_path):
    known = evidence(tmp_path, SIZES, seeds=3, **FALLING)
    holes = without(known, {("cnn", 100, 0), ("vit", 200, 1)})
    said = met(holes)
    assert said.startswith("cnn leads at n = 50 by ")
    assert ", vit leads at n = 400 by " in said
    assert ". Where they cross is not estimated: it needs two seeds in common, and 1 is finished (" in said
    judged = verdict(holes.results, ("cnn", "vit"))
    outcomes = {claim.key: claim for claim in judged.claims}
    assert outcomes["crossing"].effect is not None
    assert "How many times the images vit needs" in words(outcomes["data-multiplier"])[1]


def test_ends_that_other_seeds_would_turn_round_are_no_crossing(tmp_path):
    """Of three seeds one is far off, and missing at the other size: the two that both have say the contrary."""
    known = evidence(tmp_path, [50, 400], seeds=3, images=20_000, spread=0.001, cnn=[0.7, 0.7], vit=[0.68, 0.72])
    holes = without(with_accuracy(known, ("vit", 50, 2), 0.95), {("cnn", 400, 2)})
    assert crossing(lines(holes, "cnn", "vit", [50, 400])).found.why == SeedsDisagree()


def test_a_size_at_which_two_seeds_differ_leaves_a_meeting_open_that_nobody_saw(tmp_path):
    """The interval ends before the largest n, which the curves are said to reach apart: it says what it is."""
    known = evidence(tmp_path, SIZES, seeds=2, spread=0.001, cnn=[0.9] * 4, vit=[0.5, 0.6, 0.6, 0.7])
    uneven = with_accuracy(known, ("vit", 200, 0), 0.85)
    unseen = r"An earlier crossing is not excluded \(95 %: n = 1\d\d to 3\d\d\)\.$"
    assert re.search(rf"^No crossing up to n = 400\. There cnn leads by .*\. {unseen}", met(uneven))
    assert met(known).startswith("No crossing up to n = 400. There cnn leads")
    said = claims.multiple("cnn", "vit", multiple(lines(uneven, "cnn", "vit"), 50))
    assert re.search(r"more than 8\.0 times the images \(95 %: \d.* times, not excluded there", said)
