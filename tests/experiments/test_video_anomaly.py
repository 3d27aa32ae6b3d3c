"""Anomalies in videos: what the generated ones are, what a network is asked, areas by counting, a file as a stream, bad input."""

import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments.video_anomaly import model as models
from experiments.video_anomaly import scores, train
from experiments.video_anomaly.configs import tiny
from experiments.video_anomaly.data import VideoAnomaly
from experiments.video_anomaly.digits import FASTER, KINDS, Digits
from experiments.video_anomaly.scores import Scored
from research.core import config
from research.data.images import labelled
from research.util.errors import UserError


def build(*changes):
    cfg = tiny.get_config()
    for change in changes:
        config.override(cfg, *change.split("=", 1))
    return train.build(cfg)


def drawn(init):
    """Variables of the shapes that `init(key)` has, all in 0.05 to 0.2, so that variances are above 0; without compiling it."""
    rng, shapes = np.random.default_rng(1), jax.eval_shape(init, jax.random.key(0))
    return jax.tree.map(lambda x: jnp.asarray(rng.uniform(0.05, 0.2, x.shape), x.dtype), shapes)


def save(path, clip):
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *rest = (Image.fromarray(frame[..., 0]) for frame in clip)
    first.save(path, save_all=True, append_images=rest)
    return path


def test_anomalies_are_what_they_are_called():
    clips = Digits("valid", 40, 24, 16, before=8, seed=0)
    for i in range(40):
        pictures, where, truth = clips._draw(i)
        step, kind = np.diff(where.centre, axis=0), KINDS[clips.labels()[i]]
        speed, odd = np.linalg.norm(step, axis=1), truth[1:]
        plain = step[~odd][0]
        np.testing.assert_allclose(step[~odd], np.broadcast_to(plain, step[~odd].shape), atol=1e-9)
        assert (truth.sum() == 0) == (kind == "normal") and not truth[:8].any()
        if kind != "normal":
            first, last = np.flatnonzero(truth)[[0, -1]]
            assert last - first + 1 == truth.sum() and 8 <= truth.sum() <= 12
        if kind == "turns":
            np.testing.assert_allclose(speed[odd], np.linalg.norm(plain))
            np.testing.assert_allclose(step[odd] @ plain, 0, atol=1e-9)
        if kind == "fast":
            np.testing.assert_allclose(step[odd], np.broadcast_to(FASTER * plain, step[odd].shape), atol=1e-9)
        assert (pictures[truth] != pictures[0]).any() == (kind == "digit")
        np.testing.assert_array_equal(clips.truth(i), truth)


def test_training_is_normal_and_has_no_foreign_digit():
    clips = Digits("train", 50, 24, 16, before=8, seed=0)
    digits = labelled.load({"source": "digits"}).train.gather(np.arange(1_439))
    known = {picture.tobytes() for picture, name in zip(digits["image"], digits["label"], strict=True) if name < 7}
    for i in range(50):
        pictures, _, truth = clips._draw(i)
        assert not truth.any() and {picture.tobytes() for picture in pictures} <= known
    assert not clips.labels().any()


def test_areas_are_shares_of_ordered_pairs():
    """An area under a ROC curve is the share of (anomalous, normal) pairs in order, a tie counted half."""
    rng = np.random.default_rng(0)
    clips = [
        Scored(i % 3, rng.integers(0, 6, 5).astype(float), (rng.uniform(size=5) < 0.4) & (i % 3 > 0)) for i in range(9)
    ]

    def area(pairs):
        odd, plain = ([s for s, anomalous in pairs if anomalous == which] for which in (True, False))
        return np.mean([(a > b) + 0.5 * (a == b) for a in odd for b in plain])

    found = scores.areas(clips, ("normal", "a", "b"))
    chosen = [clip for clip in clips if clip.kind in (0, 2)]
    frames = [pair for clip in chosen for pair in zip(clip.scores, clip.truth, strict=True)]
    assert found["frame_auc/b"] == pytest.approx(area(frames))
    assert found["clip_auc"] == pytest.approx(area([(clip.scores.max(), clip.kind > 0) for clip in clips]))
    assert set(found) == {f"{per}_auc{name}" for per in ("frame", "clip") for name in ("", "/a", "/b")}
    unknown = [clip._replace(truth=None) for clip in clips]
    assert set(scores.areas(unknown, ("normal", "a", "b"))) == {"clip_auc", "clip_auc/a", "clip_auc/b"}


def test_the_baselines_by_hand():
    windows = np.zeros((1, 3, 1, 2, 1))
    windows[0, 1:, 0, :, 0] = [[0.5, 0.5], [0.5, 0.1]]
    assert scores.absolute_difference(windows)[0] == pytest.approx(0.2)
    assert scores.copy_error(windows)[0] == pytest.approx(0.08)


def test_a_predictor_does_not_see_the_frame_that_it_predicts_and_an_autoencoder_does():
    window = jnp.asarray(np.random.default_rng(0).uniform(size=(1, 4, 8, 8, 1)), jnp.float32)
    other = window.at[:, -1].set(0.5)
    for model, same in ((models.Predictor((4, 8)), True), (models.Autoencoder((4,), code=2), False)):
        variables = drawn(lambda key, model=model: model.init(key, window))
        fn = jax.jit(lambda variables, window, model=model: train.expected(model, variables, window))
        frames, errors = fn(variables, window)
        assert (fn(variables, other)[0] == frames).all() == same
        np.testing.assert_allclose(errors[0, -1], np.square(frames[0, -1] - window[0, -1]).mean(), rtol=1e-5)


def test_the_parameters_by_hand():
    """Kernels of 27 taps and biases: 1 -> 16 -> 32 -> 8 -> 32 -> 16 -> 8 channels, the last 2 x 2 x 2 pixels."""
    shapes = jax.eval_shape(lambda key: models.Autoencoder().init(key, jnp.zeros((1, 8, 16, 16, 1))), jax.random.key(0))
    pairs = [(1, 16), (16, 32), (32, 8), (8, 32), (32, 16), (16, 8)]
    assert sum(x.size for x in jax.tree.leaves(shapes)) == sum(27 * a * b + b for a, b in pairs)


def test_the_scores_of_a_stream_are_those_of_all_windows_at_once(tmp_path):
    e = build()
    variables, fn = drawn(e.init_fn), jax.jit(e.predictor.fn)
    clip = e.data.held_out["valid"].frames(2, np.arange(8))
    file = save(tmp_path / "a.gif", clip)
    pieces = list(e.predictor.codec.stream(file))
    assert [place for place, _ in pieces] == [{"frame": i} for i in range(3, 8)]
    streamed = [float(fn(variables, e.predictor.codec.encode(window))["error"][0]) for _, window in pieces]
    windows = e.data.windows("valid", 2)
    np.testing.assert_array_equal(windows[4], clip[4:].astype(np.float32) / 255)
    at_once = e.evaluator.errors(variables, windows, after_batch=lambda: None)
    np.testing.assert_allclose(streamed, at_once, rtol=1e-5)
    np.testing.assert_array_equal(e.predictor.codec.read(file), clip[-4:])


def test_a_stream_keeps_no_more_than_a_window_in_memory(tmp_path):
    side, length = 64, 300
    e = build(f"data.size={side}")
    file = save(tmp_path / "long.gif", np.random.default_rng(0).integers(0, 256, (length, side, side, 1), np.uint8))
    tracemalloc.start()
    assert sum(1 for _ in e.predictor.codec.stream(file)) == length - 3
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < length * side**2 / 4


def test_a_users_clips_are_trained_on_by_their_normal_class(tmp_path):
    clip = Digits("train", 1, 8, 8, before=4, seed=0).frames(0, np.arange(8))
    for part in ("train", "valid"):
        for name, count in (("still", 3), ("moving", 2)):
            for i in range(count):
                save(tmp_path / part / name / f"{i}.gif", clip[i:])
    cfg = {"source": "files", "path": str(tmp_path), "channels": 1, "frames": 4, "batch_size": 2, "eval_batch_size": 2}
    data = VideoAnomaly({**cfg, "normal": "still"}, seed=0)
    assert data.kinds == ("still", "moving") and len(data.train.source) == 3
    assert data.held_out["valid"].labels().tolist() == [1, 1, 0, 0, 0] and data.held_out["valid"].truth(0) is None
    assert len(data.evals["valid"].source) == 3 and data.windows("valid", 0).shape == (5, 4, 8, 8, 1)
    with pytest.raises(UserError, match="data.normal = 'normal' is no class of"):
        VideoAnomaly(cfg, seed=0)


@pytest.mark.parametrize(
    "change, words",
    [
        ("data.source=film", "no source of clips 'film'"),
        ("data.frames=1", "data.frames = 1: at least 2"),
        ("data.length=7", "data.length = 7: at least twice data.frames = 4"),
        ("data.size=4", "data.size = 4"),
    ],
)
def test_what_means_nothing_is_refused(change, words):
    with pytest.raises(UserError, match=words):
        build(change)


def test_files_and_values_that_are_no_window_are_refused(tmp_path):
    e = build()
    with pytest.raises(UserError, match="has 3 frames; the network sees 4 at a time"):
        e.predictor.codec.read(save(tmp_path / "a.gif", np.arange(3 * 64, dtype=np.uint8).reshape(3, 8, 8, 1)))
    with pytest.raises(UserError, match=r"a window is u8 or f32\[4, Y, X, C\]"):
        e.predictor.codec.encode(np.zeros((3, 8, 8, 1)))
    with pytest.raises(UserError, match="windows of 3 frames of 8 x 8"):
        models.Autoencoder((4,)).init(jax.random.key(0), jnp.zeros((1, 3, 8, 8, 1)))
