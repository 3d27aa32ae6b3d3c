"""What a network's embeddings tell of classes without training it: a linear probe, and prototypes of a few examples."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from research.util.errors import UserError

INVERSE_DECAYS = (0.001, 0.01, 0.1, 1.0, 10.0)  # of the probe's logistic regression, from which validation chooses

Embeddings = Float[np.ndarray, "n D"]
Labels = Int[np.ndarray, " n"]
Classifier = Callable[[np.ndarray], np.ndarray]  # embeddings f[m, D] -> classes i[m]


def prototypes(embeddings: Embeddings, labels: Labels, num_classes: int) -> Float[np.ndarray, "N D"]:
    """The mean embedding of each class 0..N-1 (Snell et al. 2017, 1703.05175, equation 1).

    Raises UserError for a class without examples.
    """
    if missing := sorted({*range(num_classes)} - {*labels.tolist()}):
        raise UserError(f"class {missing[0]} of {num_classes} has no example to make a prototype of")
    return np.stack([embeddings[labels == k].mean(0) for k in range(num_classes)])


def nearest(embeddings: Embeddings, means: Float[np.ndarray, "N D"]) -> Labels:
    """The class of the nearest prototype, by Euclid's distance (equation 2's most probable).

    >>> nearest(np.array([[0.0, 1.0], [3.0, 3.0]]), np.array([[0.0, 0.0], [4.0, 4.0]])).tolist()
    [0, 1]
    """
    distances = np.square(means).sum(1) - 2 * embeddings @ means.T  # but for the embedding's own square
    return distances.argmin(1)


def linear(
    embeddings: Embeddings, labels: Labels, valid: tuple[Float[np.ndarray, "m D"], Int[np.ndarray, " m"]] | None = None
) -> Classifier:
    """A logistic regression on embeddings standardised by these; the strength of its L2 penalty by accuracy on `valid`.

    Among equals the strongest penalty is taken; without `valid` it is scikit-learn's default.
    """
    from sklearn.linear_model import LogisticRegression  # slow to import
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def fitted(inverse: float):
        return make_pipeline(StandardScaler(), LogisticRegression(C=inverse, max_iter=2000)).fit(embeddings, labels)

    if valid is None:
        return fitted(1.0).predict
    return max(map(fitted, INVERSE_DECAYS), key=lambda one: one.score(*valid)).predict


def draw(labels: Labels, shots: int, seed: int) -> Int[np.ndarray, " k"]:
    """Rows of `shots` examples of each class that occurs, without replacement. Raises UserError if a class has fewer."""
    rng, rows = np.random.default_rng(seed), []
    for k in np.unique(labels):
        of_class = np.flatnonzero(labels == k)
        if len(of_class) < shots:
            raise UserError(f"{shots} examples of each class: class {k} has {len(of_class)}")
        rows.append(rng.choice(of_class, shots, replace=False))
    return np.concatenate(rows)
