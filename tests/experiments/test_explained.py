"""What each family explains of a picture, with random weights: axioms of its maps, and what the number is."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.pretrain_images import mae
from research.core import config
from research.interpret import pictures
from research.models.vision import unet
from research.run import reopen
from research.util.errors import UserError

FAMILIES = {  # family -> changes of its tiny config, options
    "captions": ([], {}),
    "detection": (["found.least_score=0.0"], {}),
    "image_classification": ([], {"class_name": "3"}),
    "multi_task": ([], {}),
    "pretrain_images": ([], {}),
    "restoration": (["model.fold=1"], {"at": (8, 8)}),
    "segmentation": ([], {"at": (0, 0)}),
    "vae": ([], {}),
    "verification": ([], {}),
    "video": (["model.form=2d"], {}),
    "video_anomaly": ([], {}),
}


@cache
def built(family, *changes):
    """-> the experiment of a tiny config, and random variables."""
    e = reopen.build(family, config.load(f"{family}/tiny", [*FAMILIES[family][0], *changes]))
    return e, noisy(jax.jit(e.init_fn)(jax.random.key(0)))


def noisy(variables, seed=1):
    """Parameters with noise: those that begin at zero would pass no gradient."""
    leaves, structure = jax.tree.flatten(variables["params"])
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    moved = [x + 0.1 * jax.random.normal(key, x.shape) for x, key in zip(leaves, keys, strict=True)]
    return {**variables, "params": jax.tree.unflatten(structure, moved)}


def inputs(e, row=0):
    """A held-out example; of what is evaluated as a whole, and not in batches, a random picture."""
    if not e.evals:
        return e.predictor.codec.encode(np.random.default_rng(row).random(e.data.shape, np.float32))
    batch = next(iter(e.evals.values())).batch(0)
    return {name: batch[name][row : row + 1] for name in e.predictor.codec.inputs}


def explained(family, row=0, **options):
    e, variables = built(family)
    if family == "verification":
        options = {"other": inputs(e, row + 1), **options}
    return e.explained(e, variables, inputs(e, row), **{**FAMILIES[family][1], **options})


def gradient(target):
    """Compiled: (image, variables) -> the scores f32[B], their gradients."""

    def total(image, variables):
        values = target.score(variables, image)
        return values.sum(), values

    run = jax.jit(jax.grad(total, has_aux=True))

    def both(image, variables):
        gradients, values = run(image, variables)
        return np.asarray(values), np.asarray(gradients)

    return both


@pytest.mark.parametrize("family", FAMILIES)
def test_the_score_is_what_its_gradients_add_up_to_and_random_weights_change_the_map(family):
    """Completeness, of each row: the integral of the gradient from black to the picture, by the midpoint rule with 64 points,
    is the difference of the scores, to 2 % of the largest of them."""
    target, (_, variables) = explained(family), built(family)
    run, image = gradient(target), np.asarray(target.image)
    (last, slope), (first, _) = run(image, variables), run(0 * image, variables)
    points = [run((i + 0.5) / 64 * image, variables)[1] for i in range(64)]
    totals = (np.mean(points, 0, np.float64) * image).reshape(len(image), -1).sum(1)
    np.testing.assert_allclose(totals, last - first, atol=0.02 * max(abs(last).max(), abs(first).max()))
    assert abs(last - first).min() > 1e-4 and np.prod(image.shape[:-3]) == len(target.names)
    other = run(image, pictures.randomised(variables, jax.random.key(2)))[1]
    assert other.any() and pictures.similarity((slope * image).sum(-1), (other * image).sum(-1)) < 0.9


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - {"vae"}))
def test_grad_cam_finds_features_and_not_the_answer(family):
    """A family whose answer is itself a map has features before it."""
    target, (_, variables) = explained(family), built(family)
    score = partial(target.score, variables)
    maps = jax.eval_shape(lambda: pictures._feature_maps(score, jnp.asarray(target.image), target.features)[1])
    assert maps
    if family in ("segmentation", "restoration"):
        every = jax.eval_shape(lambda: pictures._feature_maps(score, jnp.asarray(target.image), "")[1])
        assert len(every) > len(maps) and maps[-1].shape != every[-1].shape


def test_a_pixel_out_of_reach_has_gradient_zero():
    """Segmentation: further from the block of `stride` pixels than `reach`. Restoration: than its five convolutions of 3 x 3."""
    target, (e, variables) = explained("segmentation"), built("segmentation")
    changed = gradient(target)(target.image, variables)[1][0].any(-1)
    edge = unet.stride(e.model) + unet.reach(e.model)
    assert edge < 16 and not changed[edge:].any() and not changed[:, edge:].any() and changed[:4, :4].any()

    target, (_, variables) = explained("restoration"), built("restoration")
    changed = gradient(target)(target.image, variables)[1][0].any(-1)
    rows, columns = np.nonzero(changed)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (3, 13, 3, 13)


def test_a_known_pixel_was_made_of_itself_alone():
    e, variables = built("restoration")
    known = inputs(e) | {"hidden": np.zeros((1, 16, 16, 1), np.float32)}
    target = e.explained(e, variables, known, at=(2, 5))
    want = np.zeros((1, 16, 16, 3))
    want[0, 2, 5] = 1 / 3
    np.testing.assert_allclose(gradient(target)(target.image, variables)[1], want, rtol=1e-6)
    assert "it was known, and is kept" in target.facts[0]


def test_swapped_pictures_have_swapped_maps_and_a_picture_is_as_like_itself_as_can_be():
    e, variables = built("verification")
    a, b = inputs(e, 0), inputs(e, 1)
    maps = []
    for first, second in ((a, b), (b, a), (a, a)):
        target = e.explained(e, variables, first, other=second)
        maps.append((*gradient(target)(target.image, variables), target))
    (ab, slope_ab, _), (ba, slope_ba, _), (aa, slope_aa, target) = maps
    np.testing.assert_allclose(slope_ab, slope_ba[::-1], atol=1e-6)
    np.testing.assert_allclose(ab, ba, atol=1e-6)
    np.testing.assert_allclose(aa, 1, atol=1e-5)
    assert target.facts == ["cosine 1.0000"]
    assert abs(slope_aa).max() < 1e-4 * abs(slope_ab).max()  # a cosine of 1 is the largest: its slope is 0


def test_frames_that_are_seen_by_themselves_are_explained_by_themselves():
    """2-D convolutions and a mean over frames: a clip played backwards has its maps backwards."""
    target, (_, variables) = explained("video"), built("video")
    run = gradient(target)
    forwards, backwards = (run(target.image[:, order], variables)[1] for order in (slice(None), slice(None, None, -1)))
    np.testing.assert_allclose(backwards[:, ::-1], forwards, atol=1e-6)
    assert not np.allclose(backwards, forwards, atol=1e-4)


def test_the_score_of_the_best_box_is_the_score_it_was_found_with():
    e, variables = built("detection")
    target, given = explained("detection"), inputs(e)
    outputs = e.predictor.fn(variables, given)
    value = float(target.score(variables, target.image)[0])
    assert value == pytest.approx(float(outputs["scores"][0, 0]), rel=1e-4)
    assert target.facts[0].startswith(f"box 1 of 20: {e.data.classes[int(outputs['labels'][0, 0])]}, score {value:.4f}")
    box = [float(x) for x in target.facts[0].split(" at ")[1].split(", ")]
    np.testing.assert_allclose(box, outputs["boxes"][0, 0], atol=0.06)


def test_a_region_is_the_pixels_of_its_class():
    """The mean logit, from the label map of `predict`."""
    e, variables = built("segmentation")
    given = inputs(e)
    p = np.asarray(e.predictor.fn(variables, given)["probabilities"])[0]
    labels, scores = p.argmax(-1), np.asarray(e.model.apply(variables, given["image"]))[0]
    k = np.bincount(labels.ravel()).argmax()
    target = e.explained(e, variables, given)
    np.testing.assert_allclose(target.score(variables, given["image"]), scores[labels == k, k].mean(), rtol=1e-4)
    absent = next(name for i, name in enumerate(e.data.classes) if i not in labels)
    at = e.explained(e, variables, given, class_name=absent, at=(3, 4))
    want = scores[3, 4, e.data.classes.index(absent)]
    np.testing.assert_allclose(at.score(variables, given["image"]), want, rtol=1e-4)
    with pytest.raises(UserError, match=f"--class={absent}: predicted for no pixel"):
        e.explained(e, variables, given, class_name=absent)


def test_a_text_is_explained_by_its_likelihood():
    """That which the search has found, of a caption and of an answer."""
    e, variables = built("captions")
    predict, picture = jax.jit(e.predictor.fn), inputs(e)["image"][0]
    for value in (picture, ("what colour is the circle ?", picture)):
        given = e.predictor.codec.encode(value)
        outputs, target = predict(variables, given), e.explained(e, variables, given)
        found = float(target.score(variables, given["image"])[0])
        assert found == pytest.approx(float(outputs["score"][0]), rel=1e-4)
        assert target.names == [e.predictor.codec.decode(outputs)["text"]]


def test_a_code_is_explained_by_unit_or_by_its_error():
    e, variables = built("vae")
    given = inputs(e)
    outputs = e.predictor.fn(variables, given)
    unit = e.explained(e, variables, given, unit=5)
    np.testing.assert_allclose(unit.score(variables, given["image"]), outputs["mean"][:, 5], rtol=1e-5)
    np.testing.assert_allclose(explained("vae").score(variables, given["image"]), outputs["error"], rtol=1e-5)
    with pytest.raises(UserError, match="--unit=8: from 0 to 7"):
        e.explained(e, variables, given, unit=8)


def test_an_embedding_as_a_whole_is_explained_by_its_product_with_itself():
    e, variables = built("pretrain_images")
    given = inputs(e)
    embedding = np.asarray(e.predictor.fn(variables, given)["embedding"])
    target = e.explained(e, variables, given)
    np.testing.assert_allclose(target.score(variables, given["image"]), np.square(embedding).sum(-1), rtol=1e-5)
    unit = e.explained(e, variables, given, unit=3)
    np.testing.assert_allclose(unit.score(variables, given["image"]), embedding[:, 3], rtol=1e-5)


def test_a_masked_autoencoder_has_a_rollout():
    """Its shares of four patches; the class token's own share is left out."""
    sizes = dict(patch=4, width=8, num_layers=1, num_heads=2, decoder_width=8, decoder_layers=1, decoder_heads=2)
    model = mae.MaskedAutoencoder((8, 8, 1), **sizes, mask=0.5)
    image = jnp.asarray(np.random.default_rng(0).random((1, 8, 8, 1), np.float32))
    variables = noisy(jax.jit(model.init)(jax.random.key(0), image, jnp.arange(4)[None]))
    rollout = pictures.attention_rollout(
        lambda x: model.apply(variables, x, method="embed"), model, variables, image
    ).pixels
    shares = np.asarray(rollout)[0, [[0], [7]], [0, 7]]  # the corners, whose interpolation is constant
    assert 0.25 < shares.sum() < 0.5 and np.ptp(shares) > 0


def test_each_task_finds_its_own_shortcut():
    """Two pixels of noise hold the classes, one for each task; the rest is noise. A task's map is largest at its own."""
    e, _ = built("multi_task", "data.scene=pair", "weights.name=fixed")
    rng, places = np.random.default_rng(0), {"left": (1, 2), "right": (9, 8)}
    images = 0.5 * rng.random((256, *e.data.shape)).astype(np.float32)
    labels = {task: rng.integers(0, 2, 256) for task in places}
    for task in places:
        labels[task][0] = 1  # of the picture that is explained both pixels are bright, and survive the pooling
    for task, place in places.items():
        images[(slice(None), *place, 0)] = labels[task]
    adam, variables = optax.adam(3e-2), jax.jit(e.init_fn)(jax.random.key(0))

    @jax.jit
    def step(params, state):
        def loss(params):
            outputs = e.model.apply({"params": params}, images)
            losses = [optax.softmax_cross_entropy_with_integer_labels(outputs[t], labels[t]).mean() for t in places]
            return sum(losses)

        updates, state = adam.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    params, state = variables["params"], adam.init(variables["params"])
    for _ in range(100):
        params, state = step(params, state)
    target = e.explained(e, {"params": params}, {"image": images[:1]})
    slopes = abs(gradient(target)(target.image, {"params": params})[1]).max(-1)
    for name, slope in zip(target.names, slopes, strict=True):
        assert np.unravel_index(slope.argmax(), slope.shape) == places[name.split()[0]]
