import numpy as np
import pytest

from research.data.pipeline import EvalBatches, TrainBatches
from research.data.text.contiguous import Rows
from research.util.errors import UserError

TOKENS = np.arange(100, 134, dtype=np.uint8)  # 33 targets


def test_a_row_goes_on_where_it_ended_and_an_epoch_starts_anew():
    # 3 parts of 11 targets: 5 windows of 2 a part, one target of each part left out.
    stream = TrainBatches(Rows(TOKENS, 2, 3), 3, seed=0, shuffle=False)
    assert stream.epoch == 15
    batches = [stream.batch(k) for k in range(11)]
    for k in (0, 5, 10):
        np.testing.assert_array_equal(batches[k]["tokens"], [[100, 101], [111, 112], [122, 123]])
        assert batches[k]["starts"].all()
    for k in (1, 2, 3, 4, 6, 7, 8, 9):
        np.testing.assert_array_equal(batches[k]["tokens"][:, 0], batches[k - 1]["targets"][:, -1])
        assert not batches[k]["starts"].any()
    np.testing.assert_array_equal(batches[4]["targets"], [[109, 110], [120, 121], [131, 132]])
    assert [int(e) for e in stream.numbers(5)[1]] == [1, 1, 1]


def test_a_batch_is_a_function_of_its_number_and_rows():
    stream = TrainBatches(Rows(TOKENS, 2, 4), 4, seed=0, shuffle=False)
    whole, part = stream.batch(7), stream.batch(7, slice(1, 3))
    for name, value in part.items():
        np.testing.assert_array_equal(value, whole[name][1:3])


@pytest.mark.parametrize("rows", [1, 2, 4, 5, 16])
@pytest.mark.parametrize("length", [1, 2, 7, 40])
def test_every_token_but_the_first_is_a_target_exactly_once(rows, length):
    sweep = EvalBatches(Rows(TOKENS, length, rows, every=True), rows)
    seen, before = [], None
    for k in range(len(sweep)):
        batch = sweep.batch(k)
        assert batch["mask"].all() and (batch["starts"] == (k == 0)).all()
        counts = batch["token_mask"] > 0
        np.testing.assert_array_equal(batch["targets"][counts], batch["tokens"][counts] + 1)
        seen += batch["targets"][counts].tolist()
        if before is not None:  # a row that still counts goes on where it was
            on = counts[:, 0]
            np.testing.assert_array_equal(batch["tokens"][on, 0], before[on])
        before = batch["targets"][:, -1]
    assert sorted(seen) == TOKENS[1:].tolist()


def test_a_text_that_is_too_short():
    with pytest.raises(UserError, match=r"data.batch_size = 5 .* data.length = 7 .* 36 tokens, this one has 34"):
        Rows(TOKENS, 7, 5)
    with pytest.raises(UserError, match="data.eval_batch_size = 0"):
        Rows(TOKENS, 7, 0, every=True, key="data.eval_batch_size")
