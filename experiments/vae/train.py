"""Variational autoencoders: a picture's code, and pictures from codes."""

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments import launch
from experiments.vae import data as datasets
from experiments.vae import model as models
from experiments.vae.evaluation import Evaluation
from research.algorithms.supervised import supervised
from research.core import optim
from research.core.config import track_reads
from research.core.experiment import Experiment
from research.core.metrics import MetricSums
from research.data import draws
from research.interpret import targets
from research.losses import variational
from research.losses.classification import weighted
from research.nn.from_config import from_config
from research.run.run import Run
from research.util.errors import UserError, nearest

BOUNDS = ("vae", "iwae")
EVAL_SEED = 0  # of the noise in evaluation: every run is measured with the same


def build(cfg: Any) -> Experiment:
    """Config -> data, model, optimiser and steps."""
    cfg = track_reads(cfg)
    data = datasets.load(cfg.data, cfg.seed, cfg.model.conditional)
    model = from_config(models.VAE, cfg.model, shape=data.shape, num_classes=len(data.classes))
    options = dict(cfg.loss)
    _check(options)
    bound = partial(nats, **options, binarise=cfg.data.binarise)
    measured = partial(pixels, binarise=cfg.data.binarise, seed=EVAL_SEED)
    evaluation = Evaluation(model, data, cfg.likelihood, measured, bool(cfg.get("score_samples")))
    example = (jnp.zeros((1, math.prod(data.shape))), jnp.zeros(1, jnp.int32))
    own = optim.Own({"iwae_adam": partial(iwae_adam, cfg.data.batch_size)}, {"tripling": tripling(data.train)})
    return supervised(
        cfg, data, model, example=example, init_fn=partial(init, model, data, example),
        loss=partial(loss, bound=partial(bound, seed=cfg.seed)),
        predict=predict, eval_predict=partial(bound, seed=EVAL_SEED), batch_metrics=batch_metrics,
        rule_sets=models.SHARDING, own=own, evaluator=evaluation, judged=evaluation.METRICS, at_end=evaluation.at_end,
        sample=sample, explained=explained,
    )  # fmt: skip


def train(cfg: Any, workdir: str | Path, **options: Any) -> Any:
    """Trains a config, or an `Experiment`, to `num_steps`; resumes if `workdir` holds the run. Returns the final TrainState."""
    e = cfg if isinstance(cfg, Experiment) else build(cfg)
    with Run(e, workdir, **options) as run:
        state = run.start()
        for batch in run.batches():
            state, metrics = e.train_step(state, batch)
            run.log("train", metrics)
            for split, values in run.evaluate(state):
                run.log(split, values)
            state = run.save(state)
        for split, values in run.evaluate_at_end(state):
            run.log(split, values)
        return run.finish(state)


def loss(model: Any, params: Any, model_state: Any, batch: Any, key: jax.Array, *, bound: Any) -> tuple:
    """{"image": f32[B, Y, X, C], "label": i32[B], "draw": i32[B, 2]} -> the term in nats a picture, metrics."""
    del key  # an example draws by its own number: see research/data/draws.py
    terms, metrics = weighted(bound(model, {"params": params}, batch))
    return terms, (metrics, model_state)


def nats(
    model: Any, variables: Any, batch: Any, *, name: str, samples: int, beta: float, binarise: str, seed: int
) -> dict:
    """-> by picture, f32[B]: the loss, a bound of -log p(x); its reconstruction and KL terms.

    vae   the reconstruction's mean over K samples of the code, and `beta` times the KL divergence, which is exact (Kingma &
          Welling 2014; `beta`: Higgins et al. 2017)
    iwae  the bound of K importance weights (Burda et al. 2016)
    """
    x, label = pixels(batch, binarise, seed), batch["label"]
    mean, log_std = model.apply(variables, x, label, method="encode")
    noise = jax.vmap(lambda key: jax.random.normal(key, (samples, mean.shape[-1])))(
        draws.keys(batch["draw"], seed, "code")
    )
    z = mean[:, None] + jnp.exp(log_std)[:, None] * noise.astype(mean.dtype)
    log_likelihood = variational.bernoulli_log_likelihood(model.apply(variables, z, label, method="decode"), x[:, None])
    kl = variational.kl_to_standard_normal(mean, log_std).sum(-1)
    if name == "iwae":
        total = -variational.importance_bound(
            variational.log_weights(log_likelihood, z, mean[:, None], log_std[:, None])
        )
    else:
        total = beta * kl - log_likelihood.mean(1)
    return {"loss": total, "reconstruction": -log_likelihood.mean(1), "kl": kl}


def pixels(batch: Any, binarise: str, seed: int) -> jax.Array:
    """f[B, Y, X, C] -> f[B, P]: each pixel 1 with its grey value's probability, drawn anew each epoch or once; or as it is."""
    flat = batch["image"].reshape(batch["image"].shape[0], -1)
    if binarise == "none":
        return flat
    draw = batch["draw"] if binarise == "resample" else batch["draw"] * jnp.array([0, 1])
    uniform = jax.vmap(lambda key: jax.random.uniform(key, flat.shape[1:]))(draws.keys(draw, seed, "pixels"))
    return (uniform < flat).astype(flat.dtype)


def predict(model: Any, variables: Any, inputs: Any) -> dict:
    """{"image": f32[B, Y, X, C] in 0..1, with a conditional model "label": i32[B]} -> {"mean", "std": f32[B, Z], the code;
    "reconstruction": f32[B, Y, X, C], of the mean; "error": f32[B], its mean squared error}."""
    image = inputs["image"]
    flat, label = image.reshape(image.shape[0], -1), inputs.get("label", jnp.zeros(image.shape[0], jnp.int32))
    mean, log_std = model.apply(variables, flat, label, method="encode")
    decoded = jax.nn.sigmoid(model.apply(variables, mean, label, method="decode").astype(jnp.float32))
    error = jnp.square(decoded - flat).mean(-1)
    std = jnp.exp(log_std.astype(jnp.float32))
    return {"mean": mean, "std": std, "reconstruction": decoded.reshape(image.shape), "error": error}


def explained(e: Experiment, variables: Any, inputs: Any, *, unit: int | None = None) -> targets.Target:
    """The mean of one number of the code; by default the reconstruction's error, whose gradient shows what is unlike the
    training pictures (after Zimmerer et al. 2018, 1812.05941)."""

    def outputs(variables: Any, image: jax.Array) -> Any:
        return e.predictor.fn(variables, {**inputs, "image": image})

    def score(variables: Any, image: jax.Array) -> jax.Array:
        made = outputs(variables, image)
        return made["error"] if unit is None else made["mean"][:, unit].astype(jnp.float32)

    made = outputs(variables, inputs["image"])
    if unit is None:
        quantity, fact = "error", f"mean squared error of the reconstruction: {float(made['error'][0]):.4f}"
    else:
        value = float(made["mean"][0, targets.number("unit", unit, 0, e.model.latent - 1)])
        quantity, fact = "unit", f"unit {unit} of the code: {value:.4f}"
    return targets.Target(score, inputs["image"], quantity, [fact], [fact])


def batch_metrics(outputs: Any, batch: Any) -> MetricSums:
    """-> the loss and its terms, nats a picture."""
    return weighted(outputs, batch["mask"])[1]


def init(model: Any, data: Any, example: tuple, key: jax.Array) -> dict:
    """Fresh variables: the decoder's last bias makes each pixel its mean over the training pictures, as Burda et al. do."""
    variables = model.init(key, *example)
    p = data.pixel_means.reshape(-1)
    bias = (jnp.log(p) - jnp.log1p(-p)).astype(jnp.float32)
    params = variables["params"]
    return {**variables, "params": {**params, "pixels": {**params["pixels"], "bias": bias}}}


def iwae_adam(batch_size: int, b1: float = 0.99, b2: float = 0.999, eps: float = 1e-4) -> optax.GradientTransformation:
    """Adam as in Burda's code: of the sum over the batch, with second moments that begin at 1.

    There eps is added before the second moments' bias is corrected, here after it: with moments near 1 that is no difference.
    """
    adam = optax.scale_by_adam(b1, b2, eps)

    def init(params):
        state = adam.init(params)
        return state._replace(nu=jax.tree.map(jnp.ones_like, state.nu))

    def update(updates, state, params=None):
        return adam.update(jax.tree.map(lambda g: batch_size * g, updates), state, params)

    return optax.GradientTransformation(init, update)


def tripling(batches: Any) -> Any:
    """Burda's schedule: stages of 1, 3, 9, ... epochs, whose rates fall from `peak_lr` to `end_lr` by the same factor each."""

    def schedule(peak_lr: float, end_lr: float, steps: int) -> Any:
        if not end_lr > 0:
            raise UserError(f"optim.end_lr = {end_lr}: the schedule tripling falls to it by a factor; set it above 0")
        epoch, ends = batches.epoch / batches.batch_size, [1]  # of the stages, in epochs: (3^i - 1) / 2
        while round(ends[-1] * epoch) < steps:
            ends.append(3 * ends[-1] + 1)
        starts = jnp.array([round(end * epoch) for end in ends[:-1]])
        factor = (end_lr / peak_lr) ** (1 / max(1, len(starts)))
        return lambda step: peak_lr * factor ** (step >= starts).sum()

    return schedule


def sample(e: Experiment, state: Any, key: jax.Array, out: Path) -> Iterator[str]:
    """Draws pictures with `key`, writes them to `out` and yields its path."""
    evaluation: Any = e.evaluator
    out.parent.mkdir(parents=True, exist_ok=True)
    evaluation.draw_samples(state, out, key)
    yield str(out)


def _check(options: dict) -> None:
    name, samples, beta = (options[key] for key in ("name", "samples", "beta"))
    if name not in BOUNDS:
        raise UserError(f"loss.name = {name!r}{nearest(str(name), BOUNDS)}")
    if samples < 1:
        raise UserError(f"loss.samples = {samples}: at least 1")
    if beta < 0 or name == "iwae" and beta != 1:
        raise UserError(f"loss.beta = {beta}: at least 0 for vae; iwae's bound has none, leave it at 1")


if __name__ == "__main__":
    launch.main(train)
