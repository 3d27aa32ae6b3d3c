import numpy as np
import pytest
from scipy import stats
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


def ties(n=300):
    """Scores of two classes with many equal ones, and labels that they tell a little of."""
    rng = np.random.default_rng(1)
    positive = rng.random(n) < 0.4
    return positive, np.round(np.clip(0.5 * rng.random(n) + 0.3 * positive, 0, 1), 2)


def test_roc_equals_scikit_learn():
    positive, scores = ties()
    false, true, thresholds = classification.roc_curve(positive, scores)
    expected = sklearn.roc_curve(positive, scores, drop_intermediate=False)
    for ours, theirs in zip((false, true, thresholds), expected, strict=True):
        np.testing.assert_allclose(ours, theirs)
    assert classification.roc_auc(positive, scores) == pytest.approx(sklearn.roc_auc_score(positive, scores))


def test_roc_by_hand():
    # Scores .9+ .8- .4+ .4-: up, right, then a tie that goes both ways at once.
    positive, scores = np.array([True, False, True, False]), np.array([0.9, 0.8, 0.4, 0.4])
    false, true, thresholds = classification.roc_curve(positive, scores)
    assert false.tolist() == [0, 0, 0.5, 1] and true.tolist() == [0, 0.5, 0.5, 1]
    assert thresholds.tolist() == [np.inf, 0.9, 0.8, 0.4]
    assert classification.roc_auc(positive, scores) == 0.625


def test_an_area_wants_both_classes():
    assert np.isnan(classification.roc_auc(np.ones(3, bool), np.arange(3.0)))
    assert np.isnan(classification.roc_auc(np.zeros(3, bool), np.arange(3.0)))


def test_one_vs_rest_equals_scikit_learn():
    p, labels = probabilities()
    ours = classification.one_vs_rest_auc(p, labels)
    expected = sklearn.roc_auc_score(labels, p, multi_class="ovr", average=None)
    np.testing.assert_allclose(ours, expected)
    assert np.isnan(classification.one_vs_rest_auc(np.c_[p, p[:, 0]], labels)[5])  # of class 5 there is none


@pytest.mark.parametrize("metric", ["f1", "accuracy"])
def test_the_best_threshold_is_the_best_of_all(metric):
    positive, scores = ties()
    threshold = classification.best_threshold(positive, scores, metric)
    assert threshold not in scores
    judge = {"f1": sklearn.f1_score, "accuracy": sklearn.accuracy_score}[metric]
    candidates = [*(np.unique(scores) - 1e-9), 2.0]
    best = max(judge(positive, scores >= t, **({"zero_division": 0} if metric == "f1" else {})) for t in candidates)
    found = classification.at_threshold(positive, scores, threshold)
    assert found[metric] == pytest.approx(best)
    assert found["precision"] == pytest.approx(sklearn.precision_score(positive, scores >= threshold))
    assert found["recall"] == pytest.approx(sklearn.recall_score(positive, scores >= threshold))


def test_thresholds_by_hand():
    positive, scores = np.array([False, False, True, True]), np.array([0.1, 0.3, 0.7, 0.9])
    assert classification.best_threshold(positive, scores) == pytest.approx(0.5)
    assert classification.best_threshold(scores > 0.2, scores) == pytest.approx(0.2)
    # None is positive: to call none is best, even where a score is 1.
    never = classification.best_threshold(np.zeros(2, bool), np.array([0.2, 1.0]), "accuracy")
    assert classification.at_threshold(np.zeros(2, bool), np.array([0.2, 1.0]), never)["accuracy"] == 1


def test_reliability_by_hand():
    p = np.array([[0.5, 0.5], [0.5, 0.5], [0.2, 0.8], [0.6, 0.4]])
    bins = classification.reliability(p, np.array([0, 1, 1, 1]), num_bins=4)
    assert bins["count"].tolist() == [0, 2, 1, 1]
    np.testing.assert_allclose(bins["confidence"], [0, 0.5, 0.6, 0.8])
    np.testing.assert_allclose(bins["accuracy"], [0, 0.5, 0, 1])


@pytest.mark.parametrize("metric", ["f1", "accuracy"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("low", [0.3, 0.5, 0.7, 0.99, 1.0])
def test_a_threshold_between_two_neighbours_parts_them(metric, dtype, low):
    """Half-way in f64 is one of the two in their own dtype, to the even one: for one of these pairs it is the lower."""
    lowest = np.asarray(low, dtype)
    middle = np.nextafter(lowest, dtype(0))
    scores = np.array([np.nextafter(middle, dtype(0)), middle, lowest])
    for positive in ([0, 0, 1], [0, 1, 1]):
        threshold = classification.best_threshold(np.array(positive, bool), scores, metric)
        assert dtype(threshold) == threshold
        assert (scores >= threshold).tolist() == [bool(p) for p in positive]
        assert classification.at_threshold(np.array(positive, bool), scores, threshold)[metric] == 1


def test_a_threshold_for_false_alarms():
    positive = np.array([1, 1, 0, 1, 0, 0], bool)
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    for rate, threshold in ((0.0, 0.8), (0.3, 0.8), (0.34, 0.6), (0.7, 0.5), (1.0, 0.4)):
        assert classification.threshold_at_false_alarms(positive, scores, rate) == threshold
    assert classification.threshold_at_false_alarms(~positive, scores, 0.0) == 2  # a negative has the highest score
    assert classification.threshold_at_false_alarms(positive, np.full(6, 0.5), 0.5) == 2  # all or none
    assert classification.threshold_at_false_alarms(np.ones(2, bool), np.array([0.2, 0.3]), 0.0) == 0.2


def test_wilsons_interval_equals_scipys():
    for count, total in ((0, 10), (10, 10), (1, 20), (37, 500)):
        want = stats.binomtest(count, total).proportion_ci(method="wilson")
        assert classification.wilson(count, total) == pytest.approx((want.low, want.high), abs=1e-5)
    assert classification.wilson(0, 0) == (0, 1)


def test_small_integers_do_not_overflow():
    got = classification.confusion_matrix(np.array([19, 0], np.uint8), np.array([18, 1], np.int8), num_classes=20)
    assert got.sum() == 2 and got[19, 18] == 1 and got[0, 1] == 1
