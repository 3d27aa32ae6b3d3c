"""Generative adversarial networks: two networks, two optimisers, two updates a step."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import launch
from experiments.gan import quality
from research.core import mesh, optim
from research.core.config import track_reads
from research.core.experiment import Experiment, Predictor
from research.core.step import Step, advance, make_rngs, options, update
from research.data.images import labelled
from research.data.pipeline import Arrays, TrainBatches
from research.data.synthetic import mixtures
from research.interop import weights
from research.losses import gan as losses
from research.models.generative import gan as models
from research.nn.from_config import from_config
from research.run.run import Run
from research.util.errors import UserError, nearest

NETWORKS = {
    "mlp": (models.MLPGenerator, models.MaxoutDiscriminator),
    "dcgan": (models.DCGANGenerator, models.DCGANDiscriminator),
}
LOSSES = ("gan", "wgan_gp")
RULES = {"fsdp": ((r"kernel$", "fsdp"),)}


def build(cfg: Any) -> Experiment:
    """Config -> data, networks, optimisers and steps."""
    cfg = track_reads(cfg)
    for key, value, known in (("model.name", cfg.model.name, NETWORKS), ("loss.name", cfg.loss.name, LOSSES)):
        if value not in known:
            raise UserError(f"{key} = {value!r}{nearest(value, known)}")
    if cfg.loss.simultaneous and cfg.loss.critic_steps != 1:
        raise UserError(
            f"loss.critic_steps = {cfg.loss.critic_steps} contradicts loss.simultaneous; set one of them back"
        )
    data = None if cfg.data.source == "grid" else labelled.load(cfg.data)
    source = data.train if data else Arrays(_grid(cfg))
    train = TrainBatches(source, cfg.data.batch_size * cfg.model.pack * cfg.loss.critic_steps, cfg.seed)
    cfg = cfg.in_steps(train.epoch, train.batch_size)
    nets = networks(cfg, data)
    rates = {"generator": cfg.optim.peak_lr, "discriminator": cfg.get("discriminator_lr", cfg.optim.peak_lr)}
    updates = {"generator": 1, "discriminator": cfg.loss.critic_steps}
    tx = {k: optim.make({**cfg.optim, "peak_lr": rates[k]}, cfg.num_steps, updates[k]) for k in rates}
    fn = partial(predict, nets["generator"])
    judge = quality.make(fn, cfg.model.latent, cfg.seed, data)
    how = options(cfg)
    guard = how.pop("not_finite")
    return Experiment(
        cfg=cfg,
        train=train,
        evals={},
        init_fn=partial(init, nets, cfg.model.latent, train.spec, cfg.model.pack),
        load_pretrained=weights.pretrained(cfg.pretrained, None),
        tx=tx,
        train_step=Step(partial(train_step, Losses(nets, cfg), tx, dict(cfg.loss), how), guard),
        eval_step=None,
        evaluator=judge,
        measured=("quality",),
        predictor=Predictor(
            fn, {"z": (("b", cfg.model.latent), "float32")}, partial(encode, cfg.model.latent), decode, read
        ),
        rules=mesh.resolve(cfg.rules, RULES),
        sharding=RULES,
        ema=cfg.optim.ema,
        data=judge,
        sample=sample,
    )


def train(cfg: Any, workdir: str | Path, **how: Any) -> Any:
    """Trains to `cfg.num_steps`, or goes on there. Returns the final TrainState."""
    e = build(cfg)
    with Run(e.cfg, workdir, **how) as run:
        state = run.start(e)
        for line in e.data.report:
            run.note(line)

        for _, batch in run.steps(e.train):
            state, metrics = e.train_step(state, batch)
            run.log("train", metrics)
            for split, values in run.evaluate(state):
                run.log(split, values)
            state = run.save(state)

        return run.finish(state)


def train_step(loss: "Losses", tx: Any, order: dict, how: dict, state: Any, batch: Any) -> tuple:
    """The discriminator `critic_steps` times, each on its own rows, then the generator; or both at once."""
    how = dict(how)
    ema, n, critic = how.pop("ema"), order["critic_steps"], None
    # Every n-th row, so that each device's rows stay on that device.
    parts = [{k: v[i::n] for k, v in batch.items()} for i in range(n)]
    play: dict[str, Any] = {p: partial(update, loss=getattr(loss, p), tx=tx[p], group=p, **how) for p in tx}
    if order["simultaneous"]:
        after_d, critic = play["discriminator"](state, parts[0])
        after_g, generator = play["generator"](state, parts[0])
        return advance(_joined(after_g, after_d), ema), {**critic, **generator}
    for i, rows in enumerate(parts):
        state, critic = play["discriminator"](state, rows, part=i)
    state, generator = play["generator"](state, parts[-1], part=n)
    return advance(state, ema), {**critic, **generator}


def _joined(after_g: Any, after_d: Any) -> Any:
    """Each player's own half of two states."""
    halves = {k: (getattr(after_g, k), getattr(after_d, k)) for k in ("params", "opt")}
    both = {k: {**g, "discriminator": d["discriminator"]} for k, (g, d) in halves.items()}
    model_state = {k: {**v, "generator": after_g.model_state[k]["generator"]} for k, v in after_d.model_state.items()}
    return after_g.replace(**both, model_state=model_state)


class Losses:
    """The two players' losses as `step.Loss`es over params and batch_stats {generator, discriminator}."""

    def __init__(self, nets: dict, cfg: Any):
        self._nets, self._latent, self._pack = nets, cfg.model.latent, cfg.model.pack
        self._wasserstein, self._penalty = cfg.loss.name == "wgan_gp", cfg.loss.penalty
        self._smoothing = cfg.loss.smoothing

    def discriminator(self, params: Any, model_state: Any, batch: Any, key: jax.Array) -> tuple:
        """Batch {"x" or "image": f32[P * B, ...]} -> the discriminator's or critic's loss."""
        keys = make_rngs(key, "z", "penalty")
        x = batch.get("image", batch.get("x"))
        real, fake = (
            models.pack(x, self._pack),
            models.pack(self._fake(params, model_state, keys["z"], len(x))[0], self._pack),
        )
        of_real, model_state = self._judge(params, model_state, real)
        of_fake, model_state = self._judge(params, model_state, fake)
        if not self._wasserstein:
            scalar = losses.discriminator_loss(of_real, of_fake, self._smoothing)
            return scalar, (_metrics(scalar, real=jax.nn.sigmoid(of_real), fake=jax.nn.sigmoid(of_fake)), model_state)
        wasserstein = -losses.critic_loss(of_real, of_fake)
        penalty = losses.gradient_penalty(lambda x: self._judge(params, model_state, x)[0], real, fake, keys["penalty"])
        scalar = self._penalty * penalty - wasserstein
        return scalar, (_metrics(scalar, wasserstein=wasserstein, penalty=penalty), model_state)

    def generator(self, params: Any, model_state: Any, batch: Any, key: jax.Array) -> tuple:
        """-> the generator's loss; its batch statistics move here, the discriminator's do not."""
        rows = len(next(iter(batch.values())))
        fake, stats = self._fake(params, model_state, make_rngs(key, "z")["z"], rows)
        scores, _ = self._judge(params, model_state, models.pack(fake, self._pack))
        loss = losses.critic_generator_loss if self._wasserstein else losses.generator_loss
        scalar = loss(scores)
        return scalar, (_metrics(scalar), _replaced(model_state, "generator", stats))

    def _fake(self, params: Any, model_state: Any, key: jax.Array, rows: int) -> tuple:
        z = jax.random.normal(key, (self._pack, rows // self._pack, self._latent))
        return models.generate(self._nets["generator"], _of("generator", params, model_state), z)

    def _judge(self, params: Any, model_state: Any, x: jax.Array) -> tuple:
        variables = _of("discriminator", params, model_state)
        scores, stats = self._nets["discriminator"].apply(variables, x, train=True, mutable=["batch_stats"])
        return scores, _replaced(model_state, "discriminator", stats)


def _of(player: str, params: Any, model_state: Any) -> dict:
    return {"params": params[player], **{k: v[player] for k, v in model_state.items() if player in v}}


def _replaced(model_state: Any, player: str, stats: Any) -> dict:
    return {k: {**v, player: stats[k]} if player in v else v for k, v in model_state.items()}


def _metrics(loss: jax.Array, **values: jax.Array) -> dict:
    return {k: (v.mean().astype(jnp.float32), jnp.float32(1)) for k, v in {"loss": loss, **values}.items()}


def networks(cfg: Any, data: labelled.Images | None) -> dict:
    generator, discriminator = NETWORKS[cfg.model.name]
    if (data is None) != (cfg.model.name == "mlp"):
        raise UserError(
            f"model.name = {cfg.model.name!r} does not fit data.source = {cfg.data.source!r}: mlp is for grid"
        )
    shape = {"shape": tuple(data.shape)} if data else {}
    norm = {"norm": "layer"} if data and cfg.loss.name == "wgan_gp" else {}
    return {
        "generator": from_config(generator, cfg.model.generator, **shape),
        "discriminator": from_config(discriminator, cfg.model.discriminator, **norm),
    }


def init(nets: dict, latent: int, spec: Any, pack: int, key: jax.Array) -> dict:
    """-> {"params": {generator, discriminator}, "batch_stats": {...}}."""
    x = jnp.zeros((pack, *next(iter(spec.values())).shape[1:]))
    keys = make_rngs(key, *nets)
    made = {
        "generator": nets["generator"].init(keys["generator"], jnp.zeros((1, latent))),
        "discriminator": nets["discriminator"].init(keys["discriminator"], models.pack(x, pack)),
    }
    stats = {k: v["batch_stats"] for k, v in made.items() if "batch_stats" in v}
    return {"params": {k: v["params"] for k, v in made.items()}, **({"batch_stats": stats} if stats else {})}


def predict(generator: Any, variables: Any, inputs: Any) -> dict:
    """{"z": f32[B, Z]} -> {"x": f32[B, 2] or pictures f32[B, Y, X, C] in 0..1}."""
    own = {k: v["generator"] for k, v in variables.items() if "generator" in v}
    return {"x": generator.apply(own, inputs["z"])}


def sample(e: Experiment, state: Any, key: jax.Array, out: Path) -> Iterator[str]:
    """Writes a picture of samples drawn with `key` to `out` and tells where."""
    out.parent.mkdir(parents=True, exist_ok=True)
    e.data.draw(state, out, key)
    yield str(out)


def read(file: Path) -> np.ndarray:
    """A .npy file of a latent vector -> f32[Z]."""
    try:
        return np.load(file, allow_pickle=False).astype(np.float32)
    except (OSError, ValueError) as e:
        raise UserError(f"cannot read {file} as a .npy latent vector: {e}") from None


def encode(latent: int, value: Any) -> dict:
    """A latent vector f32[Z] -> f32[1, Z]."""
    z = np.asarray(value, np.float32).reshape(-1)
    if z.size != latent:
        raise UserError(f"{z.size} numbers; the generator takes {latent}")
    return {"z": z[None]}


def decode(outputs: Any) -> dict:
    return {"x": np.round(np.asarray(outputs["x"])[0], 4).tolist()}


def _grid(cfg: Any) -> dict:
    return mixtures.mixture(mixtures.GRID_CENTRES, mixtures.GRID_STD, cfg.data.get("num_examples", 100_000), cfg.seed)


if __name__ == "__main__":
    launch.main(train)
