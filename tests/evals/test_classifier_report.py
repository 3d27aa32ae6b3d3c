import json

import numpy as np
from PIL import Image
from sklearn import metrics as sklearn

from research.evals import classifier_report


def scores(classes, n=200, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=n)
    logits = rng.normal(size=(n, classes)) + 1.5 * np.eye(classes)[labels]
    p = np.exp(logits)
    return p / p.sum(1, keepdims=True), labels


def write(folder, found, classes, metric="f1"):
    classifier_report.write(lambda name, save: save(folder / name), found, classes, "a run, step 3", metric)
    return json.loads((folder / "scores.json").read_text())


def test_two_classes(tmp_path):
    found = {"valid": scores(2), "test": scores(2, seed=1)}
    said = write(tmp_path, found, ("no", "yes"))
    p, labels = found["test"]
    assert said["test"]["accuracy"] == sklearn.accuracy_score(labels, p.argmax(1)) == said["test"]["micro_f1"]
    assert said["test"]["confusion"] == sklearn.confusion_matrix(labels, p.argmax(1)).tolist()
    np.testing.assert_allclose(said["test"]["macro_f1"], sklearn.f1_score(labels, p.argmax(1), average="macro"))
    np.testing.assert_allclose(said["test"]["classes"]["yes"]["auc"], sklearn.roc_auc_score(labels, p[:, 1]))
    # The threshold is the validation's: on test it is what it is.
    threshold = said["threshold"]["value"]
    calls = p[:, 1] >= threshold
    np.testing.assert_allclose(said["threshold"]["at"]["test"]["f1"], sklearn.f1_score(labels, calls))
    best = max(sklearn.f1_score(found["valid"][1], found["valid"][0][:, 1] >= t) for t in found["valid"][0][:, 1])
    np.testing.assert_allclose(said["threshold"]["at"]["valid"]["f1"], best)
    words = (tmp_path / "scores.txt").read_text()
    assert words.startswith("a run, step 3\n") and f"at the threshold {threshold:.4f}, the best f1 on valid" in words
    for kind in ("confusion", "roc", "reliability"):
        for split in found:
            with Image.open(tmp_path / f"{kind}_{split}.png") as image:
                assert image.size[0] > 200 and len(np.unique(np.asarray(image))) > 10


def test_many_classes_and_one_that_never_occurs(tmp_path):
    p, labels = scores(30, n=900)
    labels[labels == 7] = 8
    said = write(tmp_path, {"valid": (p, labels)}, [f"class {i}" for i in range(30)])
    assert said["threshold"] is None
    assert said["valid"]["classes"]["class 7"]["auc"] is None
    areas = [row["auc"] for row in said["valid"]["classes"].values() if row["auc"] is not None]
    np.testing.assert_allclose(said["valid"]["macro_auc"], np.mean(areas))
    assert "and 18 classes more" in (tmp_path / "scores.txt").read_text()
    assert (tmp_path / "confusion_valid.png").stat().st_size < 100_000


def test_names_of_strangers_and_links(tmp_path):
    names = (r"$\frac{$", "_\x1b[2J")
    for name in ("scores.txt", "scores.json", "roc_test.png"):
        (tmp_path / name).symlink_to("mine")
    (tmp_path / "mine").write_text("mine")
    p, labels = scores(2)
    classifier_report.write(
        lambda name, save: save(tmp_path / name), {"test": (p, labels)}, names, "$a run$, \x1b step 3", "f1"
    )
    assert (tmp_path / "mine").read_text() == "mine"
    assert "\x1b" not in (tmp_path / "scores.txt").read_text()
    assert list(json.loads((tmp_path / "scores.json").read_text())["test"]["classes"]) == list(names)
    for name in ("roc", "confusion", "reliability"):
        with Image.open(tmp_path / f"{name}_test.png") as image:
            assert image.size[0] > 200


def test_no_threshold_is_chosen_on_test(tmp_path):
    assert write(tmp_path, {"test": scores(2)}, ("no", "yes"))["threshold"] is None
