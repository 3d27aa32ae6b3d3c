"""A run that is left in the middle, to be resumed by a test."""

from pathlib import Path

from research.core.experiment import Experiment
from research.run.run import Run


def train_until(e: Experiment, folder: Path, step: int) -> None:
    """The loop of a family, without evaluation, which is left after `step`, the step of a checkpoint."""
    with Run(e, folder) as run:
        state = run.start()
        for batch in run.batches():
            state, metrics = e.train_step(state, batch)
            run.log("train", metrics)
            state = run.save(state)
            if run.done == step:
                break
        run.finish(state)
