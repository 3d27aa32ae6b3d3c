"""Average precision by hand on few boxes, and on a thousand random pictures as other implementations computed it."""

import numpy as np
import pytest

from research.data.boxes.truth import Truth
from research.evals import detection
from research.evals.detection import Detections

BOX, OTHER = [0.0, 0, 10, 10], [20.0, 20, 40, 40]


def truth(*boxes, labels=None, ignored=None):
    n = len(boxes)
    return Truth(
        np.array(boxes, float).reshape(n, 4),
        np.array([0] * n if labels is None else labels),
        np.array([False] * n if ignored is None else ignored, bool),
    )


def found(*rows, labels=None):
    """(box, score) each."""
    boxes = np.array([box for box, _ in rows], float).reshape(-1, 4)
    return Detections(boxes, np.array([0] * len(rows) if labels is None else labels), np.array([s for _, s in rows]))


def ap50(detections, truths, **options):
    return detection.coco_ap(detections, truths, 1, **options)[0, 0]


def test_overlap():
    """A quarter shared: 25 of 100 + 100 - 25; of a crowd, 25 of the detection's own 100."""
    a, b = np.array([BOX]), np.array([[5.0, 5, 15, 15]])
    assert detection.iou(a, b)[0, 0] == pytest.approx(25 / 175)
    assert detection.iou(a, b, np.array([True]))[0, 0] == pytest.approx(0.25)


def test_a_hit_a_miss_and_a_false_one():
    """Two boxes to find. Scores .9 hit, .8 false, .7 hit: precision 1, 1/2, 2/3 at recalls 1/2, 1/2, 1.

    COCO: 51 recalls (0 to .50) at precision 1, 50 at 2/3. VOC 2007: 6 of 11 at 1, 5 at 2/3. VOC 2010: half of 1, half of 2/3.
    """
    d, t = [found((BOX, 0.9), ([50.0, 50, 60, 60], 0.8), (OTHER, 0.7))], [truth(BOX, OTHER)]
    assert ap50(d, t) == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert detection.voc_ap(d, t, 1, 2007)[0] == pytest.approx((6 + 5 * 2 / 3) / 11)
    assert detection.voc_ap(d, t, 1, 2010)[0] == pytest.approx((1 + 2 / 3) / 2)


def test_a_box_is_found_once():
    """The second detection of one box is false, after recall 1: it costs nothing; before it, it halves the precision."""
    assert ap50([found((BOX, 0.9), (BOX, 0.8))], [truth(BOX)]) == pytest.approx(1)
    assert ap50([found((OTHER, 0.9), (BOX, 0.8))], [truth(BOX)]) == pytest.approx(0.5)


def test_the_overlap_that_is_asked_for():
    """60 of 100 shared, of an equal box moved by 4: IoU 60 / 140 = .43; by 2: 80 / 120 = .67, which is a hit at .5 to .65."""
    aps = detection.coco_ap([found(([2.0, 0, 12, 10], 0.9))], [truth(BOX)], 1)[0]
    assert aps.tolist() == pytest.approx([1] * 4 + [0] * 6)
    assert ap50([found(([4.0, 0, 14, 10], 0.9))], [truth(BOX)]) == 0


def test_voc_asks_for_more_than_half():
    """IoU of exactly a half, 50 of 100: COCO counts it, VOC does not."""
    d, t = [found(([0.0, 0, 10, 5], 0.9))], [truth(BOX)]
    assert ap50(d, t) == pytest.approx(1)
    assert detection.voc_ap(d, t, 1, 2010)[0] == 0


def test_ignored_boxes_are_neither_asked_for_nor_a_mistake():
    t = [truth(BOX, OTHER, ignored=[False, True])]
    d = [found((OTHER, 0.9), (OTHER, 0.85), (BOX, 0.8))]
    assert ap50(d, t) == pytest.approx(1)
    assert detection.voc_ap(d, t, 1, 2007)[0] == pytest.approx(1)


def test_a_class_without_a_box_has_no_precision_and_others_do_not_count_it():
    d = [found((BOX, 0.9), (OTHER, 0.5), labels=[0, 1])]
    means, by_class = detection.summary(d, [truth(BOX)], ["a", "b"])
    assert means["map50"] == pytest.approx(1)
    assert np.isnan(by_class["b"]["map50"])
    assert detection.summary([found()], [truth()], ["a"])[0]["map"] == 0


def test_areas():
    """BOX has 100 square pixels, OTHER 400: between 200 and 1,000 there is one to find, and the other's hit is ignored."""
    d, t = [found((BOX, 0.9), (OTHER, 0.8))], [truth(BOX, OTHER)]
    assert ap50(d, t, areas=(200.0, 1000.0)) == pytest.approx(1)
    assert np.isnan(ap50(d, t, areas=(1000.0, 2000.0)))


def test_one_hundred_detections_of_a_class_in_a_picture():
    d = found(*[([200.0, 200, 210, 210], 0.9)] * 100, (BOX, 0.1))
    assert ap50([d], [truth(BOX)]) == 0


def pictures(seed, count=1000, classes=3):
    """Random boxes on a grid of halves, detections near them and false ones, equal scores; every tenth box is ignored."""
    rng, detections, truths = np.random.default_rng(seed), [], []
    for _ in range(count):
        n, extra = rng.integers(0, 7), rng.integers(0, 5)
        corner, size = rng.integers(0, 200, (n, 2)), rng.integers(8, 160, (n, 2))
        boxes = np.concatenate([corner, corner + size], 1) / 2
        labels, ignored = rng.integers(0, classes, n), rng.random(n) < 0.1
        seen = rng.random(n) < 0.85
        moved = boxes[seen] + rng.integers(-6, 7, (seen.sum(), 4)) / 2
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
        corner, size = rng.integers(0, 200, (extra, 2)), rng.integers(8, 160, (extra, 2))
        d = np.concatenate([moved, np.concatenate([corner, corner + size], 1) / 2])
        dl = np.concatenate([labels[seen], rng.integers(0, classes, extra)])
        swapped = rng.random(len(dl)) < 0.05
        dl = np.where(swapped, rng.integers(0, classes, len(dl)), dl)
        scores = np.round(np.concatenate([rng.beta(4, 2, seen.sum()), rng.beta(2, 4, extra)]), 2)
        detections.append(Detections(d, dl, scores))
        truths.append(Truth(boxes, labels, ignored))
    return detections, truths


# Of pictures(11): COCO's by pycocotools 2.0.11, `precision[:, :, class, area, 100].mean(recalls)`; VOC's by the formulas of
# py-faster-rcnn's voc_eval.py with a stable sort and boxes less one pixel at the right and below.
PYCOCOTOOLS = {
    "all": [
        [
            0.642608802, 0.598712322, 0.559571332, 0.512054085, 0.456541237,
            0.379334808, 0.261942989, 0.139556862, 0.020705399, 0.000344489,
        ],
        [
            0.633679125, 0.603870473, 0.573199034, 0.519693099, 0.464147196,
            0.375895158, 0.268369881, 0.134585334, 0.024603533, 0.00042063,
        ],
        [
            0.688726491, 0.664257372, 0.640125644, 0.584414678, 0.506572979,
            0.411489476, 0.296849698, 0.153321717, 0.025852091, 0.000317792,
        ],
    ],
    "small": [
        [
            0.564486562, 0.464680675, 0.377007359, 0.278755483, 0.18770311,
            0.093585494, 0.032536353, 0.007313624, 0.000540054, 0.0,
        ],
        [
            0.503791203, 0.431592789, 0.371825128, 0.275667508, 0.182680859,
            0.075780604, 0.021122108, 0.004050869, 0.000828268, 0.000353607,
        ],
        [
            0.61160672, 0.56382008, 0.499283463, 0.395149711, 0.252437037,
            0.121443902, 0.049458022, 0.011149577, 0.002134499, 0.000521105,
        ],
    ],
}  # fmt: skip
VOC = {2007: [0.618474424, 0.614286693, 0.693206069], 2010: [0.632879722, 0.628318079, 0.687034012]}


def test_as_pycocotools_and_the_voc_kit_on_a_thousand_pictures():
    d, t = pictures(11)
    for name, expected in PYCOCOTOOLS.items():
        areas = detection.AREAS.get(name, detection.EVERY_AREA)
        np.testing.assert_allclose(detection.coco_ap(d, t, 3, areas), expected, atol=1e-6, rtol=0)
    for year, expected in VOC.items():
        np.testing.assert_allclose(detection.voc_ap(d, t, 3, year), expected, atol=1e-6, rtol=0)
