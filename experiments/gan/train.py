"""Generative adversarial networks: two networks, two optimisers, two updates a step."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from experiments import launch
from experiments.gan import sample_metrics
from research.core import mesh, optim
from research.core.config import TrackedConfig, track_reads
from research.core.experiment import Experiment, Predictor
from research.core.metrics import MetricSums, objective
from research.core.step import Step, advance, make_rngs, options, update
from research.data import latents
from research.interop import weights
from research.losses import gan as losses
from research.models.generative import gan as models
from research.nn.from_config import choose, from_config
from research.run.run import Run
from research.util.errors import UserError

# name -> (generator, discriminator)
NETWORKS = {
    "mlp": (models.MLPGenerator, models.MaxoutDiscriminator),
    "dcgan": (models.DCGANGenerator, models.DCGANDiscriminator),
}
# name -> the generator's loss of the scores of its samples
LOSSES = {
    "gan": losses.generator_loss,
    "wgan_gp": losses.critic_generator_loss,
    "hinge": losses.critic_generator_loss,
}
RULES = {"fsdp": ((r"kernel$", "fsdp"),)}


def build(cfg: Any) -> Experiment:
    """Config -> data, networks, optimisers and steps."""
    cfg = track_reads(cfg)
    choose(NETWORKS, cfg.model.name)
    generator_loss_of = choose(LOSSES, cfg.loss.name, "loss.name")
    if cfg.loss.simultaneous and cfg.loss.critic_steps != 1:
        raise UserError(
            f"loss.critic_steps = {cfg.loss.critic_steps} contradicts loss.simultaneous; set one of them back"
        )
    latent, pack, critic_steps = cfg.model.latent, cfg.model.pack, cfg.loss.critic_steps
    conditional = cfg.model.conditional
    if conditional and pack != 1:
        raise UserError(
            f"model.pack = {pack} contradicts model.conditional: a pack has no one class; set one of them back"
        )
    rows, report = cfg.data.batch_size * pack * critic_steps, [sample_metrics.describe(cfg.data.source)]
    data = latents.load(cfg.data, cfg.seed, batch_size=rows, latent=latent, report=report, conditional=conditional)
    train = data.train
    cfg = cfg.in_steps(train.epoch, train.batch_size)
    nets = networks(cfg, data)
    rates = {"generator": cfg.optim.peak_lr, "discriminator": cfg.get("discriminator_lr", cfg.optim.peak_lr)}
    updates = {"generator": 1, "discriminator": critic_steps}
    tx = {k: optim.make({**cfg.optim, "peak_lr": rates[k]}, cfg.num_steps, updates[k]) for k in rates}
    names = {key: cfg.loss[key] for key in ("name", "penalty", "smoothing")}
    sizes = {"latent": latent, "pack": pack, "conditional": conditional}
    players = {
        "discriminator": partial(discriminator_loss, nets, **sizes, **names),
        "generator": partial(generator_loss, nets, **sizes, of_scores=generator_loss_of),
    }
    order = {"critic_steps": critic_steps, "simultaneous": cfg.loss.simultaneous}
    step_options = options(cfg)
    not_finite = step_options.pop("not_finite")
    fn = partial(predict, nets["generator"])
    evaluator = sample_metrics.make(fn, data, cfg.seed)
    return Experiment(
        cfg=cfg,
        train=train,
        evals=data.evals,
        init_fn=partial(init, nets, latent, train.spec, pack, conditional),
        load_pretrained=weights.pretrained(cfg.pretrained, None),
        tx=tx,
        train_step=Step(partial(train_step, players, tx, **order, **step_options), not_finite),
        eval_step=None,
        evaluator=evaluator,
        judged=sample_metrics.NAMES,
        measured=("quality",),
        at_end=evaluator.at_end,
        predictor=Predictor(fn, data.codec),
        rules=mesh.resolve(cfg.rules, RULES),
        sharding=RULES,
        ema=cfg.optim.ema,
        whole_batch="each microbatch would have latent vectors and batch statistics of its own",
        no_fixed_batch="a game of two losses, of which neither need fall",
        data=data,
        sample=sample,
    )


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


def train_step(
    players: Mapping[str, Any], tx: Mapping[str, Any], state: Any, batch: Any, *,
    critic_steps: int, simultaneous: bool, ema: float, **options: Any,
) -> tuple:  # fmt: skip
    """The discriminator `critic_steps` times, each on its own rows, then the generator; or both at once.

    `players` are their losses; `options` are further ones of `step.update`.
    """
    # Every n-th row, so that each device's rows stay on that device.
    parts = [{k: v[i::critic_steps] for k, v in batch.items()} for i in range(critic_steps)]
    play: dict[str, Any] = {p: partial(update, loss=players[p], tx=tx[p], group=p, **options) for p in tx}
    if simultaneous:
        after_d, of_discriminator = play["discriminator"](state, parts[0])
        after_g, of_generator = play["generator"](state, parts[0])
        return advance(_joined(after_g, after_d), ema), {**of_discriminator, **of_generator}
    of_discriminator = {}
    for i, rows in enumerate(parts):
        state, of_discriminator = play["discriminator"](state, rows, rng_index=i)
    state, of_generator = play["generator"](state, parts[-1], rng_index=critic_steps)
    return advance(state, ema), {**of_discriminator, **of_generator}


def _joined(after_g: Any, after_d: Any) -> Any:
    """Each player's own half of two states."""
    halves = {k: (getattr(after_g, k), getattr(after_d, k)) for k in ("params", "opt")}
    both = {k: {**g, "discriminator": d["discriminator"]} for k, (g, d) in halves.items()}
    model_state = {k: {**v, "generator": after_g.model_state[k]["generator"]} for k, v in after_d.model_state.items()}
    return after_g.replace(**both, model_state=model_state)


# Losses over params and batch_stats {generator, discriminator}. Every term is a mean already: its weight is 1.
# If the networks are conditional, samples have the classes of the batch's rows, and so the data's shares of them.


def discriminator_loss(
    nets: Any, params: Any, model_state: Any, batch: Any, key: jax.Array, *,
    latent: int, pack: int, conditional: bool, name: str, penalty: float, smoothing: float,
) -> tuple:  # fmt: skip
    """{"x" or "image": f32[P * B, ...]} -> the discriminator's or critic's terms, metrics, both players' batch statistics."""
    rngs, label = make_rngs(key, "z", "penalty"), _label(batch, conditional)
    x = batch["image"] if "image" in batch else batch["x"]
    real = models.pack(x, pack)
    fake = models.pack(_generate(nets, params, model_state, rngs["z"], len(x), latent, pack, label)[0], pack)
    real_scores, model_state = _scores(nets, params, model_state, real, label)
    fake_scores, model_state = _scores(nets, params, model_state, fake, label)
    if name == "gan":
        terms = {"loss": (losses.discriminator_loss(real_scores, fake_scores, smoothing), 1.0, 1.0)}
        parts = {"real": jax.nn.sigmoid(real_scores), "fake": jax.nn.sigmoid(fake_scores)}
    elif name == "hinge":
        terms = {"loss": (losses.hinge_loss(real_scores, fake_scores), 1.0, 1.0)}
        parts = {"real": real_scores, "fake": fake_scores}
    else:
        wasserstein = losses.critic_loss(real_scores, fake_scores)
        slope = losses.gradient_penalty(
            lambda x: _scores(nets, params, model_state, x, label)[0], real, fake, rngs["penalty"]
        )
        terms = {"penalty": (slope, 1.0, penalty), "wasserstein": (wasserstein, 1.0, 1.0)}
        parts = {"wasserstein": -wasserstein, "penalty": slope}
    return terms, (_metrics({"loss": objective(terms), **parts}), model_state)


def generator_loss(
    nets: Any, params: Any, model_state: Any, batch: Any, key: jax.Array, *,
    latent: int, pack: int, conditional: bool, of_scores: Any,
) -> tuple:  # fmt: skip
    """-> the generator's term, metrics, and its own batch statistics: the discriminator's do not move here."""
    rows, label = len(next(iter(batch.values()))), _label(batch, conditional)
    fake, stats = _generate(nets, params, model_state, make_rngs(key, "z")["z"], rows, latent, pack, label)
    scores, _ = _scores(nets, params, model_state, models.pack(fake, pack), label)
    loss = of_scores(scores)
    return {"loss": (loss, 1.0, 1.0)}, (_metrics({"loss": loss}), _replaced(model_state, "generator", stats))


def _label(batch: Any, conditional: bool) -> tuple[jax.Array, ...]:
    """What the networks read besides: (classes i32[B],), or nothing."""
    return (batch["label"],) if conditional else ()


def _generate(
    nets: Any, params: Any, model_state: Any, key: jax.Array, rows: int, latent: int, pack: int, label: tuple
) -> tuple[jax.Array, Any]:
    """-> samples f32[rows, ...], the generator's batch statistics."""
    z = jax.random.normal(key, (pack, rows // pack, latent))
    slots = [classes[None] for classes in label]
    return models.generate(nets["generator"], _of("generator", params, model_state), z, *slots)


def _scores(nets: Any, params: Any, model_state: Any, x: jax.Array, label: tuple) -> tuple[jax.Array, Any]:
    """-> the discriminator's logits or scores f32[B], the model_state with its batch statistics."""
    variables = _of("discriminator", params, model_state)
    scores, stats = nets["discriminator"].apply(variables, x, *label, train=True, mutable=["batch_stats"])
    return scores, _replaced(model_state, "discriminator", stats)


def _of(player: str, params: Any, model_state: Any) -> dict:
    return {"params": params[player], **{k: v[player] for k, v in model_state.items() if player in v}}


def _replaced(model_state: Any, player: str, stats: Any) -> dict:
    return {k: {**v, player: stats[k]} if player in v else v for k, v in model_state.items()}


def _metrics(values: dict[str, jax.Array]) -> MetricSums:
    return {k: (v.mean().astype(jnp.float32), jnp.float32(1)) for k, v in values.items()}


def networks(cfg: TrackedConfig, data: latents.Latents) -> dict:
    """-> {generator, discriminator}. Raises UserError if they do not fit the data."""
    generator, discriminator = NETWORKS[cfg.model.name]
    if (data.images is None) != (cfg.model.name == "mlp"):
        raise UserError(
            f"model.name = {cfg.model.name!r} does not fit data.source = {cfg.data.source!r}: mlp is for grid"
        )
    sizes: dict[str, dict[str, Any]] = {"generator": {"dimension": 2}, "discriminator": {}}
    if data.images:
        num_classes = len(data.images.classes) if cfg.model.conditional else 0
        sizes = {"generator": {"shape": tuple(data.images.shape), "num_classes": num_classes}}
        sizes["discriminator"] = {"num_classes": num_classes}
    critic = {**cfg.model.discriminator}
    if "norm" in critic and critic["norm"] is None and cfg.loss.name == "wgan_gp":
        critic["norm"] = "layer"
    return {
        "generator": from_config(generator, cfg.model.generator, **sizes["generator"]),
        "discriminator": from_config(discriminator, critic, **sizes["discriminator"]),
    }


def init(nets: dict, latent: int, spec: Any, pack: int, conditional: bool, key: jax.Array) -> dict:
    """-> {"params": {generator, discriminator}, "batch_stats": {...}}."""
    x = jnp.zeros((pack, *next(iter(spec.values())).shape[1:]))
    rngs, label = make_rngs(key, *nets), _label({"label": jnp.zeros(1, jnp.int32)}, conditional)
    variables = {
        "generator": nets["generator"].init(rngs["generator"], jnp.zeros((1, latent)), *label),
        "discriminator": nets["discriminator"].init(rngs["discriminator"], models.pack(x, pack), *label),
    }
    stats = {k: v["batch_stats"] for k, v in variables.items() if "batch_stats" in v}
    return {"params": {k: v["params"] for k, v in variables.items()}, **({"batch_stats": stats} if stats else {})}


def predict(generator: Any, variables: Any, inputs: Any) -> dict:
    """{"z": f32[B, Z], of a conditional model "label": i32[B]} -> {"x": f32[B, 2] or images f32[B, Y, X, C] in 0..1}."""
    own = {k: v["generator"] for k, v in variables.items() if "generator" in v}
    return {"x": generator.apply(own, inputs["z"], *_label(inputs, "label" in inputs))}


def sample(e: Experiment, state: Any, key: jax.Array, out: Path, *, label: str | None = None) -> Iterator[str]:
    """Draws samples with `key`, all of the class named `label` if it is set, writes a picture of them to `out` and yields its
    path."""
    evaluator: Any = e.evaluator
    out.parent.mkdir(parents=True, exist_ok=True)
    evaluator.draw(state, out, key, label)
    yield str(out)


if __name__ == "__main__":
    launch.main(train)
