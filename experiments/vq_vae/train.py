"""VQ-VAE in two stages: an autoencoder whose codes are discrete, then a prior over the codes of a trained one."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from experiments import launch
from experiments.vq_vae import codebook
from experiments.vq_vae import model as models
from experiments.vq_vae.data import Pictures
from experiments.vq_vae.evaluation import AutoencoderEvaluation, PriorEvaluation
from experiments.vq_vae.prior import GatedPixelCNN
from research.algorithms.supervised import supervised
from research.core.config import track_reads
from research.core.experiment import Experiment
from research.core.metrics import MetricSums, objective, pair
from research.core.step import make_rngs
from research.data.images import labelled
from research.interop import weights
from research.losses.classification import negative_log_likelihood, weighted
from research.nn.from_config import choose, from_config
from research.run.run import Run
from research.util.errors import UserError


def build(cfg: Any) -> Experiment:
    """Config -> data, model, optimiser and steps of the stage that it names."""
    cfg = track_reads(cfg)
    make = choose({"autoencoder": build_autoencoder, "prior": build_prior}, cfg.stage, "stage")
    _check(dict(cfg.loss))
    images = labelled.load(cfg.data)
    autoencoder = from_config(models.VQVAE, cfg.model, shape=tuple(images.shape))
    prior = from_config(GatedPixelCNN, cfg.prior, num_codes=autoencoder.codes)
    data = Pictures(images, cfg.data, cfg.seed, models.bits(autoencoder), cfg.stage == "prior")
    return make(cfg, data, autoencoder, prior)


def build_autoencoder(cfg: Any, data: Pictures, model: models.VQVAE, prior: GatedPixelCNN) -> Experiment:
    """The first stage: its parameters are the encoder's and decoder's, and the codebook's if that is learnt by gradient."""
    del prior
    options = dict(cfg.loss)
    if cfg.score_samples:
        raise UserError(
            "score_samples = True: an autoencoder has no prior to draw codes from; score those of stage=prior"
        )
    averages = model.learning == models.AVERAGES
    return supervised(
        cfg, data, model, example=(jnp.zeros((1, *data.shape)),),
        loss=partial(autoencoder_loss, variance=data.variance, **options), predict=reconstruct,
        batch_metrics=partial(reconstruction_metrics, variance=data.variance, commitment=options["commitment"]),
        rule_sets=models.SHARDING, evaluator=AutoencoderEvaluation(model, data), judged=AutoencoderEvaluation.METRICS,
        whole_batch="the codebook's moving averages are of a whole batch" if averages else "",
    )  # fmt: skip


def build_prior(cfg: Any, data: Pictures, autoencoder: models.VQVAE, model: GatedPixelCNN) -> Experiment:
    """The second stage: the parameters are the prior's, and the autoencoder is kept in the state, unchanged."""
    evaluation = PriorEvaluation(model, autoencoder, data, cfg.score_samples)
    return supervised(
        cfg, data, model, example=(), init_fn=partial(init_prior, model, autoencoder),
        load_pretrained=load_autoencoder(cfg.pretrained, autoencoder),
        loss=partial(prior_loss, autoencoder), predict=partial(predict_codes, autoencoder), batch_metrics=batch_metrics,
        rule_sets=models.SHARDING, evaluator=evaluation, judged=evaluation.METRICS, at_end=evaluation.at_end, sample=sample,
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


# The first stage


def autoencoder_loss(
    model: models.VQVAE, params: Any, model_state: Any, batch: Any, key: jax.Array, *,
    variance: float, commitment: float, decay: float, restart: float,
) -> tuple:  # fmt: skip
    """{"image": f32[B, Y, X, C]} -> the terms of equation 3, each a mean over numbers; metrics; the codebook after the batch.

    The reconstruction's error is divided by `variance`, the pixels', as in the authors' code. The codebook's term stands where a
    gradient learns it; else it moves to the averages of its vectors, and codes that are hardly used restart.
    """
    image, variables = batch["image"], {"params": params, **model_state}
    z = model.apply(variables, image, method="encode")
    codes = model.apply(variables, z, method="nearest")
    vectors = model.apply(variables, codes, method="embed")
    decoded = model.apply(variables, codebook.straight_through(z, vectors), method="decode")
    parts = {
        "reconstruction": pair(squares(decoded, image)),
        "commitment": pair(squares(z, jax.lax.stop_gradient(vectors))),
    }
    coefficients = {"reconstruction": 1 / variance, "commitment": commitment}
    if model.learning == models.GRADIENT:
        parts["codebook"], coefficients["codebook"] = pair(squares(jax.lax.stop_gradient(z), vectors)), 1.0
    else:
        flat = z.reshape(-1, z.shape[-1])
        averages = codebook.moved(model_state["codebook"], flat, codes.reshape(-1), decay)
        model_state = {"codebook": codebook.restarted(averages, flat, restart, make_rngs(key, "restart")["restart"])}
    terms = {name: (*parts[name], coefficients[name]) for name in parts}
    rows = jnp.float32(len(image))
    perplexity = codebook.perplexity(jnp.bincount(codes.reshape(-1), length=model.codes) / codes.size)
    metrics = {**parts, "loss": (rows * objective(terms), rows), "perplexity": (rows * perplexity, rows)}
    return terms, (metrics, model_state)


def reconstruct(model: models.VQVAE, variables: Any, inputs: Any) -> dict:
    """{"image": f32[B, Y, X, C]} -> its codes i32[B, y, x], the decoded picture, and by picture, f32[B], both squared errors."""
    z = model.apply(variables, inputs["image"], method="encode")
    codes = model.apply(variables, z, method="nearest")
    vectors = model.apply(variables, codes, method="embed")
    picture = model.apply(variables, vectors.astype(z.dtype), method="decode").astype(jnp.float32)
    errors = {"reconstruction": squares(picture, inputs["image"]), "commitment": squares(z, vectors)}
    return {"codes": codes, "picture": picture, **errors}


def reconstruction_metrics(outputs: Any, batch: Any, *, variance: float, commitment: float) -> MetricSums:
    """-> the loss without a codebook's term, and its two parts, by picture."""
    parts = {name: outputs[name] for name in ("reconstruction", "commitment")}
    return weighted(
        {"loss": parts["reconstruction"] / variance + commitment * parts["commitment"], **parts}, batch["mask"]
    )[1]


def squares(a: jax.Array, b: jax.Array) -> jax.Array:
    """-> the mean squared difference by row, f32[B]."""
    return jnp.square(a.astype(jnp.float32) - b.astype(jnp.float32)).reshape(a.shape[0], -1).mean(-1)


# The second stage


def init_prior(model: GatedPixelCNN, autoencoder: models.VQVAE, key: jax.Array) -> dict:
    """-> {"params" of the prior, "autoencoder": its variables}, which `load_autoencoder` replaces by a run's."""
    rngs = make_rngs(key, "prior", "autoencoder")
    params = model.init(rngs["prior"], jnp.zeros((1, *models.grid_shape(autoencoder)), jnp.int32))["params"]
    return {"params": params, "autoencoder": autoencoder.init(rngs["autoencoder"], jnp.zeros((1, *autoencoder.shape)))}


def load_autoencoder(cfg: Any, autoencoder: models.VQVAE) -> Any:
    """-> (state, run) -> the state with the autoencoder of the run that `pretrained.weights` names."""
    load = weights.pretrained(cfg, autoencoder)

    def with_autoencoder(state: Any, run: Any) -> Any:
        if not load.weights:
            raise UserError("stage = 'prior' needs --init-from RUN: the autoencoder whose codes it learns")
        fresh = dict(state.model_state["autoencoder"])
        loaded = load(state.replace(params=fresh.pop("params"), model_state=fresh, ema={}), run)
        return state.replace(model_state={"autoencoder": loaded.variables})

    return with_autoencoder


def prior_loss(
    autoencoder: models.VQVAE, model: GatedPixelCNN, params: Any, model_state: Any, batch: Any, key: jax.Array
) -> tuple:
    """{"image": f32[B, Y, X, C]} -> the term in nats a picture of its codes, metrics, the autoencoder as it was."""
    codes = autoencoder.apply(model_state["autoencoder"], batch["image"], method="grid")
    logits = model.apply({"params": params}, codes, train=True, rngs=make_rngs(key, "dropout"))
    terms, metrics = weighted({"loss": nats(logits, codes)})
    return terms, (metrics, model_state)


def predict_codes(autoencoder: models.VQVAE, model: GatedPixelCNN, variables: Any, inputs: Any) -> dict:
    """{"image": f32[B, Y, X, C]} -> codes i32[B, y, x] and, by picture, f32[B]: their nats, and the decoded error."""
    out = reconstruct(autoencoder, variables["autoencoder"], inputs)
    logits = model.apply({"params": variables["params"]}, out["codes"])
    return {"codes": out["codes"], "reconstruction": out["reconstruction"], "loss": nats(logits, out["codes"])}


def batch_metrics(outputs: Any, batch: Any) -> MetricSums:
    """-> the nats of the codes, by picture."""
    return weighted({"loss": outputs["loss"]}, batch["mask"])[1]


def nats(logits: jax.Array, codes: jax.Array) -> jax.Array:
    """-> -log p of a picture's codes, f32[B]."""
    return negative_log_likelihood(logits, codes).sum((1, 2))


def sample(e: Experiment, state: Any, key: jax.Array, out: Path) -> Iterator[str]:
    """Draws codes with `key`, decodes them, writes the pictures to `out` and yields its path."""
    evaluation: Any = e.evaluator
    out.parent.mkdir(parents=True, exist_ok=True)
    evaluation.draw_samples(state, out, key)
    yield str(out)


def _check(options: dict) -> None:
    if options["commitment"] < 0:
        raise UserError(f"loss.commitment = {options['commitment']}: at least 0")
    if not 0 <= options["decay"] < 1:
        raise UserError(f"loss.decay = {options['decay']}: at least 0 and below 1")
    if options["restart"] < 0:
        raise UserError(f"loss.restart = {options['restart']}: at least 0")


if __name__ == "__main__":
    launch.main(train)
