"""Steps that are not finite: which step, which parameter, and whether to stop, to skip it or to roll back."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from research.core.mesh import path_name

IN_A_ROW = 10  # skipped steps, or roll-backs to one checkpoint: more, and the run stops
GIVEN = ("reward", "return")  # metrics of what an environment or a reward function gave: no optimiser's fault
REWARD = "the reward"  # `Fault.what` where one of them is not finite


class Fault(NamedTuple):
    """The step (counted from 1), and what of it is not finite."""

    step: int
    what: str


class Guard:
    """Checks `bad` among each step's metrics (see `step.update`). `fault` is the step that has to be handled, if there is one."""

    def __init__(self, policy: str, params: Any, tx: Any):
        groups = {f"{k}/": params[k] for k in tx} if isinstance(tx, Mapping) else {"": params}
        self._names = {
            group: [group + path_name(p) for p, _ in jax.tree_util.tree_leaves_with_path(tree)]
            for group, tree in groups.items()
        }
        self.policy, self.fault = policy, None  # type: str, Fault | None
        self._skipped, self._rolled = 0, list[int]()  # in a row; the checkpoints gone back to

    def row(self, step: int, values: Mapping) -> dict[str, list[float]]:
        """A step's metrics on the host -> {name: [sum, weight]} for the log, without those of a step that is not finite."""
        bad = {k: int(v) for k, v in values.items() if k.endswith("bad")}
        pairs = {k: [float(v[0]), float(v[1])] for k, v in values.items() if k not in bad}
        bad = {k: index for k, index in bad.items() if index >= 0}
        if self.policy == "skip":
            self._skipped = self._skipped + 1 if bad else 0
            pairs = {**({} if bad else pairs), "skipped": [float(bool(bad)), 1.0]}
        if bad and (self.policy != "skip" or self._skipped > IN_A_ROW):
            given = (float(values[name][0]) for name in GIVEN if name in values)
            finite = all(map(math.isfinite, given))
            self.fault = Fault(step, self._what(*next(iter(bad.items()))) if finite else REWARD)
        return {} if self.fault else pairs

    def _what(self, key: str, index: int) -> str:
        names = self._names[key.removesuffix("bad")]
        if index == len(names):
            return "the loss"
        return (
            f"the gradient of {names[index]}" if index < len(names) else f"the updated {names[index - len(names) - 1]}"
        )

    def may_roll_back(self, checkpoint: int | None) -> bool:
        """Whether the policy allows rolling back to `checkpoint` (once more); counts the roll-backs."""
        if self.policy != "rollback" or checkpoint is None or self._rolled.count(checkpoint) >= IN_A_ROW:
            return False
        self._rolled.append(checkpoint)
        return True
