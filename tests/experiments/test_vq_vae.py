"""VQ-VAE: codes by brute force, the paper's updates by hand, what a cell sees, the sum over all grids, both stages together."""

import itertools
import json
import shutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import research
from experiments.vq_vae import codebook, pca, prior, train
from experiments.vq_vae import model as models
from experiments.vq_vae.configs import tiny
from research.core import config
from research.core.mesh import path_name
from research.interop import weights
from research.util.errors import UserError
from tools import cli


def build(*changes):
    cfg = tiny.get_config()
    for change in changes:
        config.override(cfg, *change.split("=", 1))
    return train.build(cfg)


def test_the_nearest_code_by_brute_force():
    rng = np.random.default_rng(0)
    z, embedding = rng.normal(size=(3, 5, 7, 4)).astype(np.float32), rng.normal(size=(11, 4)).astype(np.float32)
    distances = np.linalg.norm(z[..., None, :] - embedding, axis=-1)
    np.testing.assert_array_equal(codebook.nearest(z, embedding), distances.argmin(-1))


def test_the_gradient_passes_straight_through():
    """The Jacobian by z is the identity, that by the codes is 0, and the value is the codes'."""
    z, quantised = jnp.array([0.1, -2.0, 3.0]), jnp.array([1.0, 0.0, -1.0])
    np.testing.assert_allclose(codebook.straight_through(z, quantised), quantised, atol=1e-6)
    by_z, by_codes = jax.jacobian(codebook.straight_through, argnums=(0, 1))(z, quantised)
    np.testing.assert_array_equal(by_z, np.eye(3))
    np.testing.assert_array_equal(by_codes, np.zeros((3, 3)))


def test_the_moving_averages_are_the_papers():
    """Equations 6 to 8 with sums m of their own, over several batches; a code without vectors stays where it is."""
    rng, decay = np.random.default_rng(1), 0.9
    embedding = rng.normal(size=(4, 3))
    number, total = np.array([0.0, 1.0, 2.0, 5.0]), None
    total = number[:, None] * embedding
    state = {"embedding": jnp.asarray(embedding, jnp.float32), "count": jnp.asarray(number, jnp.float32)}
    for _ in range(5):
        z, codes = rng.normal(size=(12, 3)), rng.integers(0, 3, 12)  # code 3 has none
        state = codebook.moved(state, jnp.asarray(z, jnp.float32), jnp.asarray(codes), decay)
        for code in range(4):
            mine = z[codes == code]
            number[code] = decay * number[code] + (1 - decay) * len(mine)
            total[code] = decay * total[code] + (1 - decay) * mine.sum(0)
    np.testing.assert_allclose(state["count"], number, rtol=1e-5)
    np.testing.assert_allclose(state["embedding"], total / number[:, None], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(state["embedding"][3], embedding[3].astype(np.float32))


def test_codes_that_are_hardly_used_restart_among_the_vectors():
    z = jnp.arange(12.0).reshape(6, 2)
    state = {"embedding": -jnp.ones((3, 2)), "count": jnp.array([0.05, 0.5, 0.0])}
    new = codebook.restarted(state, z, 0.1, jax.random.key(0))
    assert new["count"].tolist() == [1.0, 0.5, 1.0] and new["embedding"][1].tolist() == [-1.0, -1.0]
    assert all(new["embedding"][i].tolist() in z.tolist() for i in (0, 2))
    same = codebook.restarted(state, z, 0.0, jax.random.key(0))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), same, state))


def test_perplexity_by_hand():
    assert float(codebook.perplexity(jnp.array([0.25, 0.75, 0.0]))) == pytest.approx(4 / 3**0.75)


@pytest.mark.parametrize("kernel, num_layers", [(3, 2), (5, 1)])
def test_a_cell_sees_the_cells_before_it_and_no_other(kernel, num_layers):
    """By the Jacobian of the logits: zero from a cell to itself and to what follows, nonzero from all that is before."""
    model = prior.GatedPixelCNN(num_codes=9, width=8, num_layers=num_layers, kernel=kernel)
    own = jnp.arange(9).reshape(1, 3, 3)  # a row of the embedding for each cell
    params = jax.jit(model.init)(jax.random.key(1), own)["params"]
    for layer in (params[f"h_{num_layers - 1}"]["out"], params["hidden"]):
        layer["bias"] = 9 * jnp.ones(8)  # the ReLUs that follow are open
    params["logits"] = {"kernel": jnp.ones((8, 9)), "bias": jnp.zeros(9)}

    def logits(vectors):
        return model.apply({"params": params | {"codes": {"embedding": vectors}}}, own)[0].sum(-1).reshape(9)

    by_cell = np.abs(jax.jit(jax.jacobian(logits))(params["codes"]["embedding"])).sum(-1)  # [of, by]
    assert (by_cell[np.triu_indices(9)] == 0).all()
    assert (by_cell[np.tril_indices(9, -1)] > 0).all()


def test_the_probabilities_of_all_grids_sum_to_one():
    model = prior.GatedPixelCNN(num_codes=3, width=8, num_layers=1)
    grids = jnp.array(list(itertools.product(range(3), repeat=4))).reshape(-1, 2, 2)
    variables = jax.tree.map(lambda p: 3 * p, jax.jit(model.init)(jax.random.key(0), grids))  # far from alike
    nats = jax.jit(lambda grids: train.nats(model.apply(variables, grids), grids))(grids)
    probabilities = np.exp(-np.asarray(nats, np.float64))
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert probabilities.max() > 2 / 81

    draw = jax.jit(partial(prior.draw, model, variables, count=20_000, shape=(2, 2)))
    shares = np.bincount(np.asarray(draw(jax.random.key(1))).reshape(-1, 4) @ [27, 9, 3, 1], minlength=81) / 20_000
    assert np.abs(shares - probabilities).sum() < 0.06  # of 81 grids: about sqrt(2 / pi) * sum of sqrt(p / n)


def test_components_are_rounded_as_max_found():
    """The least error of 1 and 2 bits for a normal variable is 0.3634 and 0.1175 of its variance (Max 1960, table 1)."""
    values = np.random.default_rng(0).normal(size=100_000)
    for bits, error in ((1, 0.3634), (2, 0.1175)):
        levels = pca.lloyd(values, 2**bits)
        assert np.square(values - pca.rounded(values, levels)).mean() == pytest.approx(error, rel=0.02)


def test_bits_go_to_the_largest_component():
    """Variances 9 and 1 along rotated axes: three bits are two of the first and one of the second."""
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    pictures = 7 + rng.normal(size=(30_000, 5)) * np.sqrt([9, 1, 0, 0, 0]) @ turn
    wanted = {0: 10, 1: 9 * 0.3634 + 1, 2: 9 * 0.1175 + 1, 3: 9 * 0.03454 + 1}
    for bits, error in wanted.items():
        assert pca.coding_error(pictures, pictures, bits) == pytest.approx(error / 5, rel=0.03)


def test_a_gradient_learns_the_codebook_from_its_own_term():
    e = build("model.learning=gradient", "model.width=4", "model.blocks=0", "model.codes=4")
    assert not e.whole_batch
    variables = jax.jit(e.init_fn)(jax.random.key(0))
    batch = e.evals["valid"].source.gather(np.arange(4), 0)
    options = dict(variance=1.0, commitment=0.25, decay=0.9, restart=0.0)

    def of(params):
        terms, _ = train.autoencoder_loss(e.model, params, {}, batch, jax.random.key(0), **options)
        return {name: coefficient * total / weight for name, (total, weight, coefficient) in terms.items()}

    by = jax.jit(jax.jacobian(of))(variables["params"])
    moves = {name: float(jnp.abs(grads["embedding"]).sum()) for name, grads in by.items()}
    assert moves["codebook"] > 0 and moves["reconstruction"] == moves["commitment"] == 0
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(by["codebook"]["encoder"]))
    assert any((leaf != 0).any() for leaf in jax.tree.leaves(by["reconstruction"]["encoder"]))
    values = jax.jit(of)(variables["params"])
    assert float(values["commitment"]) == pytest.approx(0.25 * float(values["codebook"]))


def test_a_prior_learns_the_codes_of_a_run(tmp_path):
    """Both stages by the command: the second keeps the first's autoencoder to the bit, and needs the first run no more."""
    first, second = tmp_path / "first", tmp_path / "second"
    short = ["train", "vq_vae/tiny", "--config.num_steps=2", "--config.eval_every=2", "--config.mesh.data=1"]
    assert cli.main([*short, f"--workdir={first}"]) == 0
    assert cli.main([*short, "--config.stage=prior", f"--workdir={second}", f"--init-from={first}@last"]) == 0
    _, arrays = weights.of_checkpoint(f"{first}@last")
    shutil.rmtree(first)
    frozen, _ = jax.tree_util.tree_flatten_with_path(research.open_run(second, "last").variables["autoencoder"])
    assert {path_name(path) for path, _ in frozen} == arrays.keys()
    for path, leaf in frozen:
        np.testing.assert_array_equal(leaf, arrays[path_name(path)])
    rows = [json.loads(line) for line in (second / "metrics.jsonl").read_text().splitlines()]
    assert {"loss", "independent_cells"} <= [row["values"] for row in rows if row["split"] == "valid"][-1].keys()
    assert [path.name.endswith("samples.png") for path in (second / "samples").iterdir()] == [True]


def test_a_prior_needs_an_autoencoder():
    load = train.load_autoencoder(tiny.get_config().pretrained, None)
    with pytest.raises(UserError, match="needs --init-from RUN"):
        load(None, None)


@pytest.mark.parametrize(
    "change, words",
    [
        ("stage=decoder", "stage = 'decoder'"),
        ("model.learning=averge", "model.learning = 'averge'"),
        ("model.halvings=4", "model.halvings = 4: 16 does not divide"),
        ("loss.commitment=-1", "loss.commitment = -1"),
        ("loss.decay=1.0", "loss.decay = 1"),
        ("loss.restart=-0.5", "loss.restart = -0.5"),
        ("prior.kernel=4", "prior.kernel = 4: an odd number"),
        ("score_samples=True", "an autoencoder has no prior"),
    ],
)
def test_what_means_nothing_is_refused(change, words):
    stage = ["stage=prior"] if change.startswith("prior.") else []
    with pytest.raises(UserError, match=words):
        e = build(*stage, change)
        jax.eval_shape(e.init_fn, jax.random.key(0))


def test_codes_are_a_grid_of_the_picture():
    model = models.VQVAE(shape=(28, 28, 1), codes=512, halvings=2)
    assert models.grid_shape(model) == (7, 7) and models.bits(model) == 49 * 9
