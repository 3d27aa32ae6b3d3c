"""What frozen features know of a label: a linear probe, the vote of the nearest neighbours, prototypes of a few examples."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from research.util.errors import UserError

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of the fit against the penalty: LogisticRegression's C
TEMPERATURE = 0.07  # of the neighbours' votes (Wu et al. 2018, 1805.01978, section 3.4)
ROWS = 1_000  # whose similarities are held at once


class Examples(NamedTuple):
    """Features f[n, D] and labels i[n]."""

    features: Float[np.ndarray, "n D"]
    labels: Int[np.ndarray, " n"]


class Probe(NamedTuple):
    """A fitted linear probe, the strength that was chosen, and whether its fit converged."""

    model: Any  # scikit-learn's
    strength: float
    converged: bool

    def __call__(self, features: Float[np.ndarray, "m D"]) -> Int[np.ndarray, " m"]:
        return self.model.predict(features)

    def accuracy(self, examples: Examples) -> float:
        return float(self.model.score(examples.features, examples.labels))


def linear_probe(
    train: Examples, valid: Examples | None, strengths: Sequence[float] = STRENGTHS, steps: int = 1_000
) -> Probe:
    """Multinomial logistic regression on `train`, with the L2 penalty whose accuracy on `valid` is highest.

    Features are standardised by the mean and deviation of `train`. Of equal accuracies the strongest penalty wins; without
    `valid` it is the weakest, scikit-learn's default. Raises UserError unless `train` has two classes.
    """
    if len(np.unique(train.labels)) < 2:
        raise UserError(f"a probe needs two classes; its {len(train.labels):,} training examples have one")
    if valid is None:
        return _fit(train, max(strengths), steps)
    fits = [_fit(train, strength, steps) for strength in sorted(strengths)]
    return max(fits, key=lambda probe: probe.accuracy(valid))


def _fit(train: Examples, strength: float, steps: int) -> Probe:
    from sklearn.exceptions import ConvergenceWarning  # slow to import
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=steps))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(np.asarray(train.features, np.float64), train.labels)
    return Probe(model, strength, not any(issubclass(one.category, ConvergenceWarning) for one in caught))


def nearest_neighbours(
    train: Examples, features: Float[np.ndarray, "m D"], k: int = 20, temperature: float = TEMPERATURE
) -> Int[np.ndarray, " m"]:
    """The label that the `k` nearest of `train` by cosine vote for, each with weight exp(cosine / temperature).

    Wu et al. 2018 (1805.01978), section 3.4. Of equal votes the smallest label wins. Raises UserError if `train` has fewer
    than `k` examples.

    >>> train = Examples(np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]), np.array([0, 0, 1]))
    >>> nearest_neighbours(train, np.array([[2.0, 0.0], [0.0, 3.0]]), k=1).tolist()
    [0, 1]
    """
    if not 1 <= k <= len(train.labels):
        raise UserError(f"{k} nearest neighbours among {len(train.labels):,} examples: from 1 to their number")
    known, asked = _unit(train.features), _unit(features)
    out = []
    for start in range(0, len(asked), ROWS):
        cosines = asked[start : start + ROWS] @ known.T
        nearest = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
        weights = np.exp((np.take_along_axis(cosines, nearest, 1) - 1) / temperature)
        votes = np.zeros((len(cosines), int(train.labels.max()) + 1))
        np.add.at(votes, (np.arange(len(votes))[:, None], train.labels[nearest]), weights)
        out.append(votes.argmax(1))
    return np.concatenate(out)


def prototypes(train: Examples, num_classes: int) -> Float[np.ndarray, "N D"]:
    """The mean of the features of each class 0..N-1 (Snell et al. 2017, 1703.05175, equation 1).

    Raises UserError for a class without examples.
    """
    if missing := sorted({*range(num_classes)} - {*train.labels.tolist()}):
        raise UserError(f"class {missing[0]} of {num_classes} has no example to make a prototype of")
    return np.stack([train.features[train.labels == k].mean(0) for k in range(num_classes)])


def nearest_prototype(features: Float[np.ndarray, "m D"], means: Float[np.ndarray, "N D"]) -> Int[np.ndarray, " m"]:
    """The class of the nearest prototype, by Euclid's distance (equation 2's most probable).

    >>> nearest_prototype(np.array([[0.0, 1.0], [3.0, 3.0]]), np.array([[0.0, 0.0], [4.0, 4.0]])).tolist()
    [0, 1]
    """
    distances = np.square(means).sum(1) - 2 * features @ means.T  # but for the features' own square
    return distances.argmin(1)


def draw(labels: Int[np.ndarray, " n"], shots: int, seed: int) -> Int[np.ndarray, " k"]:
    """Rows of `shots` examples of each class that occurs, without replacement. Raises UserError if a class has fewer."""
    rng, rows = np.random.default_rng(seed), []
    for k in np.unique(labels):
        of_class = np.flatnonzero(labels == k)
        if len(of_class) < shots:
            raise UserError(f"{shots} examples of each class: class {k} has {len(of_class)}")
        rows.append(rng.choice(of_class, shots, replace=False))
    return np.concatenate(rows)


def _unit(x: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "n D"]:
    x = np.asarray(x, np.float64)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
