import threading
from concurrent.futures import wait
from types import SimpleNamespace

import numpy as np
import pytest

from research.core.experiment import Predictor
from research.serving.batcher import Batcher
from research.serving.jobs import Busy, Closed
from research.serving.programs import Programs
from research.util.errors import UserError


class Counted(Programs):
    """Programs that record the rows of each batch, and fail for a row of -1. `gate` holds the first batch back."""

    def __init__(self, max_batch=8):
        fn = lambda variables, inputs: {"y": inputs["x"] * 2}  # noqa: E731
        codec = SimpleNamespace(inputs={"x": (("b", "t"), "float32")}, constraints=("t <= 20",))
        super().__init__(Predictor(fn, codec), {}, max_batch)
        self.batches, self.gate = [], threading.Event()

    def __call__(self, inputs):
        if threading.current_thread().name == "batcher":
            self.gate.wait(30)
            self.batches.append(len(inputs["x"]))
            if (inputs["x"] == -1).any():
                raise RuntimeError("this row cannot be predicted")
        return super().__call__(inputs)


def rows(*values):
    return {"x": np.array([[value] for value in values], np.float32)}


@pytest.fixture
def batcher():
    made = Batcher(Counted(), delay=0.05, queue=20)
    made.start()
    yield made
    made.programs.gate.set()
    made.close()


def test_rows_that_wait_together_share_a_batch_and_each_gets_its_own(batcher):
    first = batcher.submit(rows(0.5))
    futures = [batcher.submit(rows(*range(i, i + 1 + i % 2))) for i in range(10)]
    batcher.programs.gate.set()
    assert first.result(30)["y"].tolist() == [[1.0]]
    assert [f.result(30)["y"].ravel().tolist() for f in futures] == [
        [2.0 * value for value in range(i, i + 1 + i % 2)] for i in range(10)
    ]
    assert max(batcher.programs.batches) == 8 and len(batcher.programs.batches) <= 4


def test_lengths_are_padded_to_share_a_batch_and_cut_in_the_answer(batcher):
    x = {"x": np.array([[1.0, 2.0, 3.0]], np.float32)}
    futures = [batcher.submit(rows(7.0)), batcher.submit(x)]
    batcher.programs.gate.set()
    assert [f.result(30)["y"].tolist() for f in futures] == [[[14.0]], [[2.0, 4.0, 6.0]]]
    assert batcher.programs.batches == [2]


def test_a_row_that_fails_fails_alone(batcher):
    futures = [batcher.submit(rows(value)) for value in (1.0, -1.0, 3.0)]
    batcher.programs.gate.set()
    wait(futures, 30)
    assert [f.exception() is None for f in futures] == [True, False, True]
    assert futures[2].result()["y"].tolist() == [[6.0]]


def test_a_full_queue_and_a_closed_one_refuse(batcher):
    first = batcher.submit(rows(1.0))
    futures = []
    with pytest.raises(Busy):
        for _ in range(40):
            futures.append(batcher.submit(rows(2.0)))
    futures[3].cancel()
    batcher.programs.gate.set()
    batcher.close()
    assert first.result(30) and all(f.done() for f in futures)
    with pytest.raises(Closed):
        batcher.submit(rows(1.0))


def test_wrong_rows_and_numbers_are_named(batcher):
    with pytest.raises(UserError, match="want float32"):
        batcher.submit({"x": np.zeros((1, 3), int)})
    for options in ({"delay": -1}, {"queue": 0}):
        with pytest.raises(UserError, match="want 0 to 10 s"):
            Batcher(batcher.programs, **options)


def test_a_single_row_waits_no_longer_than_the_delay():
    made = Batcher(Counted(), delay=0.01)
    made.programs.gate.set()
    made.start()
    assert made.submit(rows(1.0)).result(5)["y"].tolist() == [[2.0]]
    made.close()
    assert made.programs.batches == [1]
