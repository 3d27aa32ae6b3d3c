"""How good a classifier is in service, once labels have arrived: accuracy, calibration, and both by subgroup."""

import sqlite3
from typing import Any

import numpy as np

from research.evals import classification
from research.serving.monitor.reference import Reference


def measure(db: sqlite3.Connection, name: str, version: str) -> dict[str, Any] | None:
    """Of a model's rows that have a label: accuracy, its standard error, calibration error; the same by subgroup. None: no row.

    A row's subgroup is the one that came with its label, otherwise its true class.
    """
    rows = db.execute(
        "select prediction = label, confidence, coalesce(subgroup, label) from answers natural join feedback "
        "where model = ? and version = ? and prediction is not null and label is not null",
        (name, version),
    ).fetchall()
    if not rows:
        return None
    right, confidence = np.array([row[0] for row in rows], bool), np.array([row[1] for row in rows])
    groups = np.array([row[2] for row in rows])
    of = {str(group): _numbers(right[groups == group], confidence[groups == group]) for group in np.unique(groups)}
    return _numbers(right, confidence) | {"subgroups": of}


def at_export(reference: Reference) -> dict[str, Any] | None:
    """The same numbers of a reference's rows, without subgroups; None if it is no classifier's."""
    if reference.labels is None or reference.labels.max() >= reference.signals["class"].shape[1]:
        return None
    right = reference.signals["class"].argmax(-1) == reference.labels
    return _numbers(right, reference.signals["confidence"][:, 0])


def _numbers(right: np.ndarray, confidence: np.ndarray) -> dict[str, float | int]:
    accuracy = float(right.mean())
    error = float(np.sqrt(accuracy * (1 - accuracy) / len(right)))
    top = np.stack([confidence, np.zeros_like(confidence)], 1)  # the top-1 class against any other
    ece = classification.calibration_error(top, 1 - right.astype(int))
    return {"labels": len(right), "accuracy": accuracy, "standard_error": error, "calibration_error": ece}
