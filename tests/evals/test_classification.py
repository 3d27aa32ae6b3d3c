import numpy as np
import pytest
from sklearn import metrics as sklearn
from sklearn.calibration import calibration_curve

from research.evals import classification

# Class 3 never occurs and class 4 is never predicted.
LABELS = np.array([0, 0, 0, 1, 1, 2, 2, 2, 4, 4])
PREDICTIONS = np.array([0, 1, 0, 1, 1, 0, 2, 3, 0, 1])


def probabilities(n=2000, classes=5):
    rng = np.random.default_rng(0)
    scores = np.exp(2 * rng.normal(size=(n, classes)))
    return scores / scores.sum(1, keepdims=True), rng.integers(classes, size=n)


def test_confusion_matrix_equals_scikit_learn():
    ours = classification.confusion_matrix(LABELS, PREDICTIONS, 5)
    np.testing.assert_array_equal(ours, sklearn.confusion_matrix(LABELS, PREDICTIONS))
    assert ours[2].tolist() == [1, 0, 1, 1, 0]


def test_report_equals_scikit_learn():
    report = classification.report(classification.confusion_matrix(LABELS, PREDICTIONS, 5))

    def expected(average):
        scores = sklearn.precision_recall_fscore_support(
            LABELS, PREDICTIONS, labels=range(5), average=average, zero_division=0
        )
        return dict(zip(("precision", "recall", "f1"), scores, strict=False))

    for name, value in expected(None).items():
        np.testing.assert_allclose(report[name], value)
    for name, value in expected("macro").items():
        assert report[f"macro_{name}"] == pytest.approx(value)
    for value in expected("micro").values():
        assert report["accuracy"] == pytest.approx(value)


def test_report_by_hand():
    report = classification.report(np.array([[3, 1], [2, 4]]))
    assert report["accuracy"] == 0.7
    assert report["precision"].tolist() == [3 / 5, 4 / 5]
    assert report["recall"].tolist() == [3 / 4, 4 / 6]
    assert report["macro_f1"] == pytest.approx((6 / 9 + 8 / 11) / 2)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_top_k_equals_scikit_learn(k):
    scores, labels = probabilities()
    expected = sklearn.top_k_accuracy_score(labels, scores, k=k)
    assert classification.top_k_accuracy(scores, labels, k) == pytest.approx(expected)


def test_a_tie_is_no_hit():
    scores, labels = np.array([[1.0, 1.0, 0.0]] * 2), np.array([0, 1])
    assert classification.top_k_accuracy(scores, labels, 1) == 0
    assert classification.top_k_accuracy(scores, labels, 2) == 1


def test_calibration_error_by_hand():
    # Two bins: (0, .5] holds .5 right and .5 wrong; (.5, 1] holds .8 right and .6 wrong.
    p = np.array([[0.5, 0.5], [0.5, 0.5], [0.2, 0.8], [0.6, 0.4]])
    error = classification.calibration_error(p, np.array([0, 1, 1, 1]), num_bins=2)
    assert error == pytest.approx((2 * abs(0.5 - 0.5) + 2 * abs(0.5 - 0.7)) / 4)


def test_calibration_error_equals_scikit_learns_curve():
    p, labels = probabilities()
    confidence, correct = p.max(1), p.argmax(1) == labels
    right, mean = calibration_curve(correct, confidence, n_bins=15)
    counts = np.histogram(confidence, np.linspace(0, 1, 16))[0]
    expected = (np.abs(right - mean) * counts[counts > 0]).sum() / len(labels)
    assert expected > 0.1
    assert classification.calibration_error(p, labels) == pytest.approx(expected)
