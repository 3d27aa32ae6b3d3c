"""Average precision of detected boxes: COCO's, and PASCAL VOC's of 2007 and of 2010. Boxes are (x1, y1, x2, y2), x1 < x2."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from research.data.boxes.truth import Truth

COCO_IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
MOST = 100  # detections of a class in one picture, by COCO's rule
EVERY_AREA = (0.0, 1e10)
AREAS = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}  # square pixels, COCO's


class Detections(NamedTuple):
    """What a detector says of one picture."""

    boxes: Float[np.ndarray, "n 4"]
    labels: Int[np.ndarray, " n"]
    scores: Float[np.ndarray, " n"]


def area(boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, " n"]:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def iou(
    a: Float[np.ndarray, "n 4"], b: Float[np.ndarray, "m 4"], crowd: Bool[np.ndarray, " m"] | None = None
) -> Float[np.ndarray, "n m"]:
    """Intersection over union; with a `crowd` of `b`, over the area of `a`, as pycocotools has it.

    >>> iou(np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 0, 3, 2]])).round(3).tolist()
    [[0.333]]
    """
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    common = np.prod(np.maximum(high - low, 0), -1)
    union = area(a)[:, None] + area(b)[None] - common
    if crowd is not None:
        union = np.where(crowd[None], area(a)[:, None], union)
    return common / np.where(union > 0, union, 1)


def coco_ap(
    detections: Sequence[Detections],
    truths: Sequence[Truth],
    num_classes: int,
    areas: tuple[float, float] = EVERY_AREA,
    ious: Float[np.ndarray, " t"] = COCO_IOUS,
) -> Float[np.ndarray, "c t"]:
    """AP of each class at each overlap, as pycocotools computes it: 101 recalls, the MOST best of a picture and class.

    Pictures go in the order given, which decides between equal scores. Boxes whose area is outside `areas` are ignored. A class
    without a box to find is nan: `np.nanmean` over all is COCO's "AP", and over `[:, 0]` "AP50".
    """
    out = np.full((num_classes, len(ious)), np.nan)
    for label in range(num_classes):
        matches = [_coco_picture(d, t, label, areas, ious) for d, t in zip(detections, truths, strict=True)]
        wanted = sum(match[3] for match in matches)
        if not wanted:
            continue
        scores = np.concatenate([match[0] for match in matches])
        order = np.argsort(-scores, kind="stable")
        hit, ignored = (np.concatenate([match[i] for match in matches], 1)[:, order] for i in (1, 2))
        for t in range(len(ious)):
            recall, precision = _curve(hit[t], ~hit[t] & ~ignored[t], wanted)
            places = np.searchsorted(recall, RECALLS, side="left")
            best = np.append(_envelope(precision), 0.0)
            out[label, t] = best[np.minimum(places, len(precision))].mean()
    return out


def voc_ap(
    detections: Sequence[Detections], truths: Sequence[Truth], num_classes: int, year: int, least: float = 0.5
) -> Float[np.ndarray, " c"]:
    """AP of each class, as VOC's kit computes it: a detection goes to the box that it overlaps most, by more than `least`.

    year  2007: the mean of the best precision at 11 recalls; 2010: the area under it. A class without a box to find is nan. The
    kit counts whole pixels from both ends: its box (x1, y1, x2, y2) is (x1 - 1, y1 - 1, x2, y2) here.
    """
    out = np.full(num_classes, np.nan)
    for label in range(num_classes):
        matches = [_voc_picture(d, t, label, least) for d, t in zip(detections, truths, strict=True)]
        wanted = sum(match[3] for match in matches)
        if not wanted:
            continue
        scores, hit, ignored = (np.concatenate([match[i] for match in matches]) for i in range(3))
        order = np.argsort(-scores, kind="stable")
        recall, precision = _curve(hit[order], (~hit & ~ignored)[order], wanted)
        if year == 2007:
            out[label] = np.mean([precision[recall >= t].max(initial=0.0) for t in np.arange(0.0, 1.1, 0.1)])
        else:
            steps = np.diff(recall, prepend=0.0)
            out[label] = (steps * _envelope(precision)).sum()
    return out


METRICS = ("map", "map50", "map75", "voc2007", "voc2010")


def summary(
    detections: Sequence[Detections], truths: Sequence[Truth], classes: Sequence[str]
) -> tuple[dict[str, float], dict[str, Mapping[str, float]]]:
    """-> the means over classes by name, and {class: {name: AP}}. A mean over no class is 0."""
    coco = coco_ap(detections, truths, len(classes))
    voc = (voc_ap(detections, truths, len(classes), year) for year in (2007, 2010))
    by_class = dict(zip(METRICS, (coco.mean(1), coco[:, 0], coco[:, 5], *voc), strict=True))
    means = {name: float(np.nanmean(aps)) if np.isfinite(aps).any() else 0.0 for name, aps in by_class.items()}
    return means, {c: {name: float(aps[i]) for name, aps in by_class.items()} for i, c in enumerate(classes)}


def _coco_picture(d: Detections, t: Truth, label: int, areas: tuple[float, float], ious: np.ndarray) -> tuple:
    """-> scores f[n], hit bool[t, n], ignored bool[t, n], and how many boxes there are to find."""
    mine = np.flatnonzero(d.labels == label)
    mine = mine[np.argsort(-d.scores[mine], kind="stable")][:MOST]
    theirs = np.flatnonzero(t.labels == label)
    boxes, crowd = t.boxes[theirs], t.ignored[theirs]
    passed = crowd | _outside(boxes, areas)
    order = np.argsort(passed, kind="stable")  # those to find first
    boxes, crowd, passed = boxes[order], crowd[order], passed[order]
    overlaps = iou(d.boxes[mine], boxes, crowd)
    hit = np.zeros((len(ious), len(mine)), bool)
    ignored = np.tile(_outside(d.boxes[mine], areas), (len(ious), 1))
    if len(boxes):
        free, rows, least = np.ones((len(ious), len(boxes)), bool), np.arange(len(ious)), np.minimum(ious, 1 - 1e-10)
        for j in range(len(mine)):
            # The greatest overlap, the last of equals; a box to be ignored only if there is none to find.
            fits = free & (overlaps[j] >= least[:, None])
            value = np.where(fits, overlaps[j] + 2.0 * ~passed, -1.0)
            best = len(boxes) - 1 - value[:, ::-1].argmax(1)
            matched = value[rows, best] >= 0
            hit[:, j] = matched & ~passed[best]
            ignored[:, j] = np.where(matched, passed[best], ignored[:, j])
            free[rows, best] &= ~matched | crowd[best]  # a crowd takes any number
    return d.scores[mine], hit, ignored, int((~passed).sum())


def _voc_picture(d: Detections, t: Truth, label: int, least: float) -> tuple:
    """-> scores f[n], hit bool[n], ignored bool[n], and how many boxes there are to find."""
    mine = np.flatnonzero(d.labels == label)
    mine = mine[np.argsort(-d.scores[mine], kind="stable")]
    theirs = t.labels == label
    boxes, difficult = t.boxes[theirs], t.ignored[theirs]
    hit, ignored = np.zeros(len(mine), bool), np.zeros(len(mine), bool)
    if len(boxes):
        overlaps, taken = iou(d.boxes[mine], boxes), np.zeros(len(boxes), bool)
        for j, best in enumerate(overlaps.argmax(1)):
            if overlaps[j, best] > least:
                ignored[j] = difficult[best]
                hit[j] = not difficult[best] and not taken[best]
                taken[best] = True
    return d.scores[mine], hit, ignored, int((~difficult).sum())


def _outside(boxes: np.ndarray, areas: tuple[float, float]) -> np.ndarray:
    return (area(boxes) < areas[0]) | (area(boxes) > areas[1])


def _curve(hit: np.ndarray, false: np.ndarray, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """-> recall and precision after each detection, the best scores first."""
    true, false = np.cumsum(hit, dtype=np.float64), np.cumsum(false, dtype=np.float64)
    return true / wanted, true / (true + false + np.spacing(1))


def _envelope(precision: np.ndarray) -> np.ndarray:
    """The best precision at this recall or a greater one."""
    return np.maximum.accumulate(precision[::-1])[::-1]
