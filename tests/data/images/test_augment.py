import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.data.images import augment
from research.util.errors import UserError

KEY = jax.random.key(0)
EVERYTHING = {"crop": 2, "flip": 0.5, "erase": 0.5, "mixup": 0.4, "smoothing": 0.1, "std": 0.5}
EVERYTHING |= {"cutmix": 1.0, "resized_crop": 0.5, "rand_layers": 2, "rand_noise": 0.5, "jitter": 0.3}


def batch_of(size=200, rows=12, columns=16, channels=1):
    """Positive pixels, so that zero means padding."""
    image = np.random.default_rng(0).uniform(0.1, 1, (size, rows, columns, channels))
    return {"image": jnp.asarray(image, jnp.float32), "label": jnp.arange(size) % 10}


def made(cfg):
    return jax.jit(augment.make(cfg, 10))


def test_no_option_is_the_identity():
    batch = batch_of()
    out = augment.make({}, 10)(KEY, batch)
    np.testing.assert_array_equal(out["image"], batch["image"])
    np.testing.assert_array_equal(out["label"], batch["label"])


def test_crop_without_padding_is_the_identity():
    batch = batch_of()
    np.testing.assert_array_equal(augment.crop(KEY, batch, 0)["image"], batch["image"])


def test_crop_shows_every_window_of_the_padded_picture():
    # A picture of one bright pixel: the pixel's place in the crop tells the offset.
    image = jnp.zeros((3000, 5, 5, 1)).at[:, 2, 2].set(1.0)
    out = np.asarray(made({"crop": 1})(KEY, {"image": image})["image"])[..., 0]
    _, rows, columns = np.nonzero(out)
    assert len(rows) == 3000
    counts = np.bincount((rows - 1) * 3 + columns - 1, minlength=9)
    assert len(counts) == 9  # 3 x 3 offsets, each one third of a third of the time
    assert np.abs(counts - 3000 / 9).max() < 5 * (3000 * 8 / 81) ** 0.5


def test_crop_pads_with_black():
    out = np.asarray(augment.crop(KEY, batch_of(), 3)["image"])
    black = (out == 0).all((1, 3))  # columns that are padding in every row
    assert black.sum(1).max() == 3
    assert not (black[:, 0] & black[:, -1]).any()  # a window reaches over one side only


def test_flip_is_its_own_inverse_and_spares_the_rest():
    batch = batch_of(4000, 2, 3)
    once = augment.flip(KEY, batch, 0.3)
    mirrored = (once["image"] == batch["image"][:, :, ::-1]).all((1, 2, 3))
    kept = (once["image"] == batch["image"]).all((1, 2, 3))
    assert (mirrored ^ kept).all()
    assert abs(mirrored.mean() - 0.3) < 5 * (0.3 * 0.7 / 4000) ** 0.5
    np.testing.assert_array_equal(augment.flip(KEY, once, 0.3)["image"], batch["image"])
    known = augment.flip(KEY, {"image": jnp.arange(6.0).reshape(1, 2, 3, 1)}, 1.0)["image"]
    assert known[0, ..., 0].tolist() == [[2, 1, 0], [5, 4, 3]]


def boxes(out):
    """Pictures bool[B, Y, X] -> (top, left, height, width) of each box; every box is full."""
    found = []
    for mask in out:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert mask.sum() == height * width
        found.append((rows[0], columns[0], height, width))
    return np.array(found).T


def test_erased_boxes_keep_to_area_aspect_and_probability():
    count, rows, columns, p = 3000, 60, 50, 0.4
    batch = {"image": jnp.ones((count, rows, columns, 1))}
    erase = jax.jit(lambda key: augment.erase(key, batch, p, (0.05, 0.2), 0.5, fill=0.25)["image"])
    out = np.asarray(erase(KEY))[..., 0]
    assert set(np.unique(out)) == {0.25, 1.0}
    hit = (out == 0.25).any((1, 2))
    assert abs(hit.mean() - p) < 5 * (p * (1 - p) / count) ** 0.5

    top, left, height, width = boxes(out[hit] == 0.25)
    pixels = rows * columns  # sides are rounded by half a pixel at most
    assert ((height + 0.5) * (width + 0.5) >= 0.05 * pixels).all()
    assert ((height - 0.5) * (width - 0.5) <= 0.2 * pixels).all()
    assert ((height + 0.5) / (width - 0.5) >= 0.5).all()
    assert ((height - 0.5) / (width + 0.5) <= 2).all()
    # Share and ratio are uniform, so their means are the middles of their ranges.
    assert (height * width / pixels).mean() == pytest.approx(0.125, abs=0.006)
    assert (height / width).mean() == pytest.approx(1.25, abs=0.05)
    assert top.min() == 0 and left.min() == 0
    assert (top + height).max() == rows and (left + width).max() == columns


def test_erasing_always_finds_a_box_at_the_papers_settings():
    batch = {"image": jnp.ones((3000, 28, 28, 1))}
    out = jax.jit(lambda key: augment.erase(key, batch, 1.0, fill=0.0)["image"])(KEY)
    assert (out == 0).any((1, 2, 3)).all()


def test_erasing_fills_with_noise_by_default():
    batch = {"image": jnp.full((400, 20, 20, 3), 2.0)}
    noise = np.asarray(jax.jit(lambda key: augment.erase(key, batch, 1.0)["image"])(KEY))
    noise = noise[noise < 2]
    assert noise.min() >= 0 and noise.max() < 1
    assert noise.mean() == pytest.approx(0.5, abs=0.01)
    assert noise.std() == pytest.approx(12**-0.5, abs=0.01)


@pytest.fixture(scope="module")
def mixed():
    batch = {"image": batch_of(10)["image"], "label": jnp.eye(10)}  # ten different labels
    mix = jax.jit(lambda key: augment.mixup(key, batch, 0.4))
    return batch, [mix(jax.random.key(i)) for i in range(300)]


def test_mixup_is_one_convex_combination_of_images_and_labels(mixed):
    batch, (out, *_) = mixed
    weight = float(out["label"][0, 0])
    assert 0 < weight < 1
    expected = weight * np.eye(10) + (1 - weight) * np.roll(np.eye(10), 1, 0)
    np.testing.assert_allclose(out["label"], expected, atol=1e-6)
    image = np.asarray(batch["image"])
    expected = [weight * image[i] + (1 - weight) * image[i - 1] for i in range(10)]
    np.testing.assert_allclose(out["image"], expected, rtol=1e-5)


def test_mixup_weights_are_beta(mixed):
    stats = pytest.importorskip("scipy.stats")
    weights = [float(out["label"][0, 0]) for out in mixed[1]]
    assert stats.kstest(weights, stats.beta(0.4, 0.4).cdf).pvalue > 1e-3
    assert stats.kstest(weights, stats.beta(1, 1).cdf).pvalue < 1e-3


def test_smoothing_by_hand():
    label = jnp.array([[0.0, 1.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]])
    out = augment.smooth({"label": label}, 0.2)["label"]
    expected = [[0.05, 0.85, 0.05, 0.05], [0.45, 0.45, 0.05, 0.05]]
    np.testing.assert_allclose(out, expected, rtol=1e-6)


def test_normalise_by_hand():
    image = jnp.array([0.5, 1.0]).reshape(1, 1, 1, 2)
    out = augment.normalise({"image": image}, (0.25, 0.5), (0.5, 0.25))["image"]
    assert out.ravel().tolist() == [0.5, 2.0]


def test_evaluation_only_normalises():
    batch = batch_of()
    out = augment.make({**EVERYTHING, "mean": 0.5}, 10, train=False)(KEY, batch)
    np.testing.assert_allclose(out["image"], 2 * batch["image"] - 1, atol=1e-6)
    assert out["label"] is batch["label"]


def test_the_chain_is_pure_in_its_key_and_passes_other_keys_through():
    chain = made(EVERYTHING)
    batch = {**batch_of(), "id": np.arange(200)}
    first, again, other = (chain(jax.random.key(k), batch) for k in (0, 0, 1))
    np.testing.assert_array_equal(first["image"], again["image"])
    assert float(jnp.abs(first["image"] - other["image"]).mean()) > 0.1
    np.testing.assert_allclose(first["label"].sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(first["id"], batch["id"])


def test_images_of_a_batch_are_changed_differently():
    same = {"image": jnp.repeat(batch_of(1)["image"], 50, 0), "label": jnp.zeros(50, int)}
    out = made({"crop": 2, "erase": 1.0, "erase_fill": 0.0})(KEY, same)["image"]
    assert len(np.unique(np.asarray(out).reshape(50, -1), axis=0)) == 50


def test_an_option_leaves_the_draws_of_others_alone():
    batch = batch_of()
    flipped = made({"flip": 0.5})(KEY, batch)["image"]
    both = made({"flip": 0.5, "erase": 0.5, "erase_fill": 0.0})(KEY, batch)["image"]
    kept = both != 0
    np.testing.assert_array_equal(both[kept], flipped[kept])


def test_images_keep_their_dtype():
    batch = batch_of(8)
    batch["image"] = batch["image"].astype(jnp.bfloat16)
    out = jax.eval_shape(augment.make(EVERYTHING, 10), KEY, batch)
    assert out["image"].dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("cfg", "words"),
    [
        ({"erasing": 0.5}, "augment.erasing is unknown.*'erase'"),
        ({"flip": 1.5}, "augment.flip is 1.5"),
        ({"erase_area": (0.4, 0.02)}, r"augment.erase_area is \(0.4, 0.02\)"),
        ({"std": (0.2, 0.0)}, "augment.std"),
    ],
)
def test_bad_options_are_named(cfg, words):
    with pytest.raises(UserError, match=words):
        augment.make(cfg, 10)


def test_cutmix_weighs_labels_by_the_area_that_was_pasted():
    batch = {"image": jnp.arange(1.0, 11).reshape(10, 1, 1, 1) * jnp.ones((10, 12, 16, 1)), "label": jnp.eye(10)}
    mix = jax.jit(lambda key: augment.cutmix(key, batch, 1.0))
    shares = []
    for i in range(200):
        out = mix(jax.random.key(i))
        image, label = np.asarray(out["image"]), np.asarray(out["label"])
        pasted = image[1, ..., 0] == 1  # of the row before
        assert ((image[1, ..., 0] == 2) | pasted).all()
        assert boxes(pasted[None]).shape == (4, 1) if pasted.any() else True
        np.testing.assert_allclose(label[1, [0, 1]], [pasted.mean(), 1 - pasted.mean()], atol=1e-6)
        np.testing.assert_allclose(label.sum(1), 1, atol=1e-6)
        shares.append(pasted.mean())
    # A box of share 1 - weight, uniform for alpha = 1, that the border cuts: its sides are (3/4 of theirs) on average.
    assert 0.2 < np.mean(shares) < 0.45


def test_mixup_with_cutmix_takes_one_of_them_for_each_batch():
    batch = batch_of(10)
    options = {"mixup": 1.0, "cutmix": 1.0}
    both, cut, mixed = made(options), made({"cutmix": 1.0}), made({"mixup": 1.0})
    kinds = []
    for key in map(jax.random.key, range(40)):
        out = both(key, batch)
        same = [np.allclose(out["image"], one(key, batch)["image"], atol=1e-6) for one in (mixed, cut)]
        assert sum(same) == 1  # as alone, for the same key
        kinds.append(same[0])
    assert 8 < sum(kinds) < 32


def test_resample_is_pillows():
    from PIL import Image

    x = np.random.default_rng(0).random((12, 16)).astype(np.float32)
    ours = augment.resample(jnp.asarray(x)[..., None], jnp.array([2.0, 3.0]), jnp.array([8.0, 5.0]))[..., 0]
    theirs = Image.fromarray(x).resize((16, 12), Image.Resampling.BILINEAR, box=(3, 2, 8, 10))
    np.testing.assert_allclose(ours, np.asarray(theirs), atol=2e-3)  # Pillow's weights have a few bits


def test_a_resized_crop_shows_a_part_of_the_picture():
    """A picture whose values are its places: the crop's extent is the range of them."""
    rows, columns = jnp.mgrid[:40, :60] + 0.5
    image = jnp.stack([rows / 40, columns / 60], -1)[None].repeat(1000, 0)
    out = np.asarray(jax.jit(lambda key: augment.resized_crop(key, {"image": image}, 0.3))(KEY)["image"])
    height = 40 / 39 * (out[..., 0].max((1, 2)) - out[..., 0].min((1, 2))) * 40 + 1e-3
    width = 60 / 59 * (out[..., 1].max((1, 2)) - out[..., 1].min((1, 2))) * 60 + 1e-3
    area, ratio = height * width / 2400, width / height
    whole = area > 0.99
    assert area[~whole].min() > 0.26 and area.max() <= 1.01 and whole.mean() < 0.3
    assert ratio[~whole].min() > 0.7 and ratio[~whole].max() < 1.42
    assert out.min() >= 0 and out.max() <= 1


def test_jitter_by_hand():
    image = jnp.full((2000, 2, 2, 1), 0.4)
    out = np.asarray(augment.jitter(KEY, {"image": image}, 0.5)["image"])[:, 0, 0, 0]
    # Of one colour, an image is only brighter or darker, to the nearest level of its own mean.
    assert 0.195 < out.min() < 0.21 and 0.59 < out.max() < 0.605 and abs(out.mean() - 0.4) < 0.01


def test_pad_is_there_in_evaluation_too():
    batch = batch_of(3)
    out = augment.make({"pad": 2, "mean": 0.5}, 10, train=False)(KEY, batch)["image"]
    assert out.shape == (3, 16, 20, 1) and out[0, 0, 0, 0] == -0.5
    np.testing.assert_allclose(out[:, 2:-2, 2:-2], batch["image"] - 0.5)
    assert augment.padded({"pad": 2}, (12, 16, 1)) == (16, 20, 1)


def test_views_are_the_image_mirrored_and_its_crops():
    image = batch_of(2)["image"]
    (alone,) = augment.make_views({"std": 0.5}, 10)(image)
    np.testing.assert_array_equal(alone, augment.normalise({"image": image}, 0.0, 0.5)["image"])
    first, second = augment.make_views({"views": "flip"}, 10)(image)
    np.testing.assert_array_equal(second, first[:, :, ::-1])
    ten = augment.make_views({"views": "crops", "crop": 2}, 10)(image)
    assert len(ten) == 10 and all(view.shape == image.shape for view in ten)
    np.testing.assert_array_equal(ten[0], image)
    np.testing.assert_array_equal(ten[1][:, 2:, 2:], image[:, :-2, :-2])  # the upper left corner begins with padding
    np.testing.assert_array_equal(ten[9], ten[4][:, :, ::-1])


def test_options_that_an_older_config_lacks_are_off():
    batch = batch_of(4)
    out = augment.make(dict.fromkeys(["cutmix", "pad", "rand_magnitude", "views"]), 10)(KEY, batch)
    np.testing.assert_array_equal(out["image"], batch["image"])


@pytest.mark.parametrize(
    ("cfg", "words"),
    [
        ({"mixup": -0.5}, "augment.mixup is -0.5; it must be 0 or more"),
        ({"cutmix": -1.0}, "augment.cutmix is -1.0"),
        ({"rand_magnitude": 11}, "augment.rand_magnitude is 11; it must be from 0 to 10"),
        ({"rand_operations": ("rotat",)}, "did you mean 'rotate'"),
        ({"resized_crop": 1.5}, "a fraction of the area"),
        ({"views": "crops"}, "with augment.crop above 0"),
        ({"views": "ten"}, "augment.views is 'ten'"),
    ],
)
def test_further_bad_options_are_named(cfg, words):
    with pytest.raises(UserError, match=words):
        augment.make(cfg, 10)


def test_means_of_other_channels_are_refused():
    with pytest.raises(
        UserError, match=r"augment.mean = \(0.1, 0.2, 0.3\) has 3 numbers; the pictures have channels: 1"
    ):
        augment.padded({"mean": (0.1, 0.2, 0.3)}, (8, 8, 1))
