"""After a step that was not finite: back to the last checkpoint, or an end that names the step and its examples."""

from collections.abc import Sequence
from pathlib import Path

from research.core.guard import REWARD, Fault
from research.util.errors import UserError
from research.util.files import write_json


def before(step: int, saved: Sequence[int]) -> int | None:
    """The newest saved step before `step`."""
    return max((each for each in saved if each < step), default=None)


def write(folder: Path, fault: Fault, examples: Sequence[int], checkpoint: int | None) -> None:
    """not_finite.json: what was not finite, the numbers of the step's examples, and the checkpoint before it."""
    about = {"step": fault.step, "what": fault.what, "examples": list(examples), "checkpoint": checkpoint}
    write_json(folder / "not_finite.json", about)


def error(folder: Path, fault: Fault, examples: Sequence[int], checkpoint: int | None) -> UserError:
    """The error that ends the run."""
    some = ", ".join(map(str, examples[:3])) + (f" and {len(examples) - 3} more" if len(examples) > 3 else "")
    if fault.what == REWARD:
        remedy = "look at the reward function or the environment"
    else:
        remedy = "lower optim.peak_lr, or set optim.clip_norm or not_finite"
    return UserError(
        f"step {fault.step}: {fault.what} is not finite, on examples {some}; checkpoint {checkpoint} is kept. See `almanac "
        f"replay {folder} --step {fault.step}`; {remedy}"
    )
