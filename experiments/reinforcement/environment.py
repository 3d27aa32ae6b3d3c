"""gymnax environments, many at once: their state is arrays, a row each, and every row has its own keys.

A row's randomness is folded from its number, so that it is the same on any number of devices.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from research.core import mesh
from research.util.errors import UserError, nearest

Playing = Mapping[str, Any]  # {"env": gymnax's state, "observation": f32[B, ...], "return": f32[B], "length": i32[B]}


class Environment:
    """One of gymnax's environments whose actions are a finite set.

    name, num_actions, shape of an observation, and `limit`: steps after which an episode is truncated
    """

    def __init__(self, name: str):
        import gymnax  # takes seconds, and needless for verbs that only read configs
        from gymnax.environments import spaces

        if name not in gymnax.registered_envs:
            raise UserError(f"data.source = {name!r}{nearest(name, gymnax.registered_envs)}")
        try:
            self._env, self._params = gymnax.make(name)
        except OSError as e:  # MNISTBandit downloads its images
            raise UserError(f"data.source = {name!r}: gymnax cannot make it here: {e}") from None
        actions = self._env.action_space(self._params)
        if not isinstance(actions, spaces.Discrete):
            raise UserError(f"data.source = {name!r}: its actions are continuous; want one with a finite set of them")
        self.name, self.num_actions, self.limit = name, int(actions.n), int(self._params.max_steps_in_episode)
        self.shape = jax.eval_shape(self._env.reset, jax.random.key(0), self._params)[0].shape

    def reset(self, key: jax.Array, rows: jax.Array) -> Playing:
        """New episodes, one for each of `rows` i32[B]."""
        observation, env = jax.vmap(self._env.reset, (0, None))(row_keys(key, rows), self._params)
        zero = jnp.zeros(rows.shape, jnp.float32)
        return _typed(
            {
                "env": env,
                "observation": observation.astype(jnp.float32),
                "return": zero,
                "length": zero.astype(jnp.int32),
            }
        )

    def step(self, playing: Playing, action: jax.Array, keys: jax.Array) -> tuple[Playing, dict[str, jax.Array]]:
        """One action a row, i32[B]; an episode that ends is followed by a new one. -> what comes after, and the transitions.

        A transition has "observation", "action", "reward", "terminated", "done" (terminated or truncated), "next_observation"
        (the last of its episode where done), and of its episode so far, this step included, "return" and "length".
        """
        observation, env, reward, terminated, truncated, info = jax.vmap(self._env.step, (0, 0, 0, None))(
            keys, playing["env"], action, self._params
        )
        done, reward = terminated | truncated, reward.astype(jnp.float32)
        total, length = playing["return"] + reward, playing["length"] + 1
        transition = {
            "observation": playing["observation"], "action": action, "reward": reward, "terminated": terminated,
            "done": done, "next_observation": info["final_observation"].astype(jnp.float32), "return": total,
            "length": length,
        }  # fmt: skip
        after = {
            "env": env,
            "observation": observation.astype(jnp.float32),
            "return": jnp.where(done, 0.0, total),
            "length": jnp.where(done, 0, length),
        }
        return _typed(after, playing), transition

    def play(
        self, choose: Callable, steps: int, playing: Playing, key: jax.Array, rows: jax.Array
    ) -> tuple[Playing, dict[str, jax.Array]]:
        """`steps` steps of each row -> what comes after, and the transitions {name: [steps, B, ...]}.

        `choose(observation, keys[B])` -> actions i32[B], and what else belongs to the transitions: {name: [B, ...]}.
        """
        keys = row_keys(key, rows)
        return jax.lax.scan(lambda playing, t: self._act(choose, playing, keys, t), sharded(playing), jnp.arange(steps))

    def episodes(self, choose: Callable, key: jax.Array, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
        """One whole episode for each of `rows` i32[B] -> returns f32[B], lengths i32[B]."""
        keys = row_keys(key, rows)

        def one(carry, t):
            playing, going, total, length = carry
            playing, transition = self._act(choose, playing, keys, t)
            total += jnp.where(going, transition["reward"], 0.0)
            return (playing, going & ~transition["done"], total, length + going), None

        zero = jnp.zeros(rows.shape, jnp.int32)
        start = (sharded(self.reset(key, rows)), zero == 0, zero.astype(jnp.float32), zero)
        _, _, total, length = jax.lax.scan(one, start, jnp.arange(1, self.limit + 1))[0]
        return total, length

    def _act(self, choose: Callable, playing: Playing, keys: jax.Array, t: jax.Array) -> tuple[Playing, dict]:
        of_step = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, t)))(keys)
        action, more = choose(playing["observation"], of_step[:, 0])
        playing, transition = self.step(playing, action, of_step[:, 1])
        return playing, {**transition, **more}


def of_episodes(transitions: Mapping[str, jax.Array]) -> dict[str, tuple]:
    """-> return and length of the episodes that ended, by episode."""
    ended = transitions["done"].astype(jnp.float32)
    return {name: ((transitions[name] * ended).sum(), ended.sum()) for name in ("return", "length")}


def row_keys(key: jax.Array, rows: jax.Array) -> jax.Array:
    """A key for each of `rows` i32[B]: [B]."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, rows)


def sharded(tree: Any) -> Any:
    """Arrays [B, ...], split over the data axis where it divides B."""
    return jax.tree.map(lambda x: mesh.shard_activations(x) if mesh.data_parts(len(x)) > 1 else x, tree)


def _typed(playing: Any, like: Any = None) -> Any:
    """The same arrays, strongly typed: gymnax resets to Python's numbers, and a step must not change a type."""
    dtypes = jax.tree.map(lambda x: np.dtype(x.dtype), playing if like is None else like)
    return jax.tree.map(jnp.asarray, playing, dtypes)
