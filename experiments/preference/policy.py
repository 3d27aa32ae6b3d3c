"""A policy that samples: its rewards, GRPO's step and loss, and how its completions are judged."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from research.algorithms.lora import LoRA
from research.core import step as steps
from research.generation.rollout import Rollout, joined, rollout
from research.losses.classification import weighted
from research.losses.preference import group_advantages, grpo, token_log_probs
from research.util.errors import UserError, nearest


def exact(drawn: Rollout, batch: Mapping[str, Any]) -> jax.Array:
    """1 for the chosen completion, token for token, else 0: f32[B]."""
    return (drawn.tokens == batch["answer"]).all(-1).astype(jnp.float32)


def length(drawn: Rollout, batch: Mapping[str, Any]) -> jax.Array:
    """The share of the most tokens that a completion may have: a reward that is wrong on purpose."""
    return drawn.mask.mean(-1)


REWARDS: dict[str, Callable[[Rollout, Mapping[str, Any]], jax.Array]] = {"exact": exact, "length": length}


class Settings(NamedTuple):
    """The `grpo` group of a config."""

    reward: str  # of REWARDS
    group: int  # samples a prompt
    updates: int  # of the parameters for each set of samples
    temperature: float  # that samples are drawn at
    clip: float
    beta: float


def check(cfg: Any) -> Settings:
    """Raises UserError for an unknown reward and for numbers out of range."""
    settings = Settings(**{name: cfg.grpo[name] for name in Settings._fields})
    if settings.reward not in REWARDS:
        raise UserError(f"grpo.reward = {settings.reward!r}{nearest(settings.reward, REWARDS)}")
    ranges = {
        "group": (settings.group >= 2, "at least 2: advantages are within a group"),
        "updates": (settings.updates >= 1, "at least 1"),
        "temperature": (settings.temperature > 0, "above 0"),
        "clip": (0 < settings.clip < 1, "above 0 and below 1"),
        "beta": (settings.beta >= 0, "at least 0"),
    }
    for name, (valid, words) in ranges.items():
        if not valid:
            raise UserError(f"grpo.{name} = {getattr(settings, name)}: {words}")
    if settings.updates > 1 and cfg.dtype == "bfloat16":
        raise UserError(
            f"grpo.updates = {settings.updates} with dtype = 'bfloat16': ratios of probabilities need float32; set one of them"
        )
    return settings


def as_dtype(tree: Any, like: Any) -> Any:
    """The leaves of `tree` in the dtypes of `like`'s."""
    return jax.tree.map(lambda x, y: x.astype(y.dtype), tree, like)


def make_train_step(model: Any, tx: Any, cfg: Any, settings: Settings, end: int, adapters: LoRA | None) -> steps.Step:
    """-> the step that draws `group` completions of each prompt, rewards them, and updates the policy `updates` times."""
    options = steps.options(cfg)
    ema, not_finite = options.pop("ema"), options.pop("not_finite")

    objective = partial(loss, settings, model)
    if adapters:
        objective = adapters.loss(objective)

    def step(state: Any, batch: Any) -> tuple:
        key = steps.make_rngs(jax.random.fold_in(state.key, state.step), "rollout")["rollout"]
        params = steps.cast(state.replace(ema={}).variables["params"], cfg.dtype)  # with the adapters, and not averaged
        samples = experience(model, params, batch, key, settings, end)
        for i in range(settings.updates):
            state, metrics = steps.update(state, samples, objective, tx, rng_index=i, **options)
        return steps.advance(state, ema), metrics

    return steps.Step(step, not_finite)


def experience(model: Any, params: Any, batch: Any, key: jax.Array, settings: Settings, end: int) -> dict:
    """Completions with their rewards, of B prompts and G samples each, rows in the prompts' order.

    {"tokens": i32[BG, P + L], prompt and completion; "mask": f32[BG, P + L], 1 at the completion; "old": f32[BG, P + L], the
    tokens' log-probabilities; "reward", "advantage": f32[BG]}.
    """
    B, G = len(batch["prompt"]), settings.group
    rows = {name: jnp.repeat(batch[name], G, axis=0) for name in ("prompt", "prompt_length", "answer")}
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(B * G))
    drawn = _draw(model, params, rows, keys, settings, end)
    reward = REWARDS[settings.reward](drawn, rows)
    advantage = group_advantages(reward.reshape(B, G)).reshape(B * G)
    at = rows["prompt"], rows["prompt_length"]
    blank = jnp.zeros(rows["prompt"].shape)
    tokens, mask, old = (joined(before, at[1], x) for before, x in zip((at[0], blank, blank), drawn, strict=True))
    samples = {"tokens": tokens, "mask": mask, "old": old, "reward": reward, "advantage": advantage}
    return jax.lax.stop_gradient(samples)


def _draw(model: Any, params: Any, rows: Any, keys: Any, settings: Settings, end: int) -> Rollout:
    options = {"length": rows["answer"].shape[1], "end": end, "temperature": settings.temperature}
    return rollout(model, {"params": params}, rows["prompt"], rows["prompt_length"], keys, **options)


def loss(settings: Settings, model: Any, params: Any, model_state: Any, batch: Any, key: jax.Array) -> tuple:
    """`experience` -> GRPO's term, a mean over samples, metrics."""
    del key  # nothing is drawn
    tokens, mask = batch["tokens"], batch["mask"]

    def log_probs(params: Any) -> jax.Array:
        logits = model.apply({"params": params}, tokens).astype(jnp.float32) / settings.temperature
        return token_log_probs(logits, tokens, mask)

    new, reference = log_probs(params), log_probs(as_dtype(model_state["reference"], params))
    old = batch["old"] if settings.updates > 1 else jax.lax.stop_gradient(new)
    values = grpo(new, old, reference, batch["advantage"], mask, settings.clip, settings.beta)
    names = ("loss", "kl", "clipped")
    terms, metrics = weighted(
        dict(zip(names, values, strict=True)) | {"reward": batch["reward"], "length": mask.sum(-1)}
    )
    return terms, (metrics, model_state)


def judge(model: Any, variables: Any, batch: Any, *, end: int, settings: Settings) -> dict:
    """Metrics of a policy's own completions, f32[B] each; the same for the same parameters.

    accuracy          of the most probable tokens: whether they are the chosen completion
    sampled_accuracy  of one sample at the temperature
    reward, length    of that sample; the length in tokens, the end among them
    kl                log p / p_reference of the sample, in nats: its mean is the divergence
    win_rate          against the reference's sample: 1 if it alone is right, 0.5 if both or neither
    """
    keys = jax.vmap(lambda row: jax.random.fold_in(jax.random.key(0), row))(batch["row"])
    greedy = _draw(model, variables["params"], batch, None, settings, end)
    drawn = _draw(model, variables["params"], batch, keys, settings, end)
    right = exact(drawn, batch)
    out = {"accuracy": exact(greedy, batch), "sampled_accuracy": right, "length": drawn.mask.sum(-1)}
    out["reward"] = REWARDS[settings.reward](drawn, batch)
    if "reference" not in variables:
        return out
    reference = as_dtype(variables["reference"], variables["params"])
    other = _draw(model, reference, batch, keys, settings, end)
    at = batch["prompt_length"]
    tokens = joined(batch["prompt"], at, drawn.tokens)
    mask = joined(jnp.zeros(batch["prompt"].shape), at, drawn.mask)
    logits = model.apply({"params": reference}, tokens).astype(jnp.float32) / settings.temperature
    theirs = token_log_probs(logits, tokens, mask).sum(-1)
    return out | {"kl": drawn.log_probs.sum(-1) - theirs, "win_rate": (1 + right - exact(other, batch)) / 2}
