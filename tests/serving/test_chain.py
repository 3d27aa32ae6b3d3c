"""Rows through a chain: kinds, order, streaming by counting, what fails, what waits."""

import itertools
import queue
import threading
from types import SimpleNamespace

import pytest

from research.serving import chain
from research.serving.chain import HANDOVER, Row
from research.serving.stage import MOST_ROWS, Output
from research.util.errors import UserError

SECONDS = 30  # until a test that would hang fails


class Stage(SimpleNamespace):
    """A stage of `function`, one value at a time, that keeps the sizes of its calls; it begins once `gate` is open."""

    def __init__(self, function, takes="text", gives="text", name="stage", gate=None):
        super().__init__(function=function, takes=takes, gives=gives, name=name, gate=gate, sizes=[])

    def __call__(self, values):
        assert self.gate is None or self.gate.wait(SECONDS)
        self.sizes.append(len(values))
        return [self.one(value) for value in values]

    def one(self, value):
        try:
            made = self.function(value)
        except UserError as error:
            return error
        return Output({"made": made}, made)


def rows(values):
    return [Row(str(i), value) for i, value in enumerate(values)]


def through(stages, values):
    return list(chain.run(stages, rows(values)))


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        (
            [("text", "text"), ("picture", "class")],
            r"stage 2 \(b\) takes: picture; stage 1 \(a\) gives: text",
        ),
        ([("text", "record"), ("text", "text")], r"stage 2 \(b\) takes: text; stage 1 \(a\) gives: record"),
        ([("text", "text"), ("", "record")], r"stage 2 \(b\) does not say what it takes"),
    ],
)
def test_kinds_that_do_not_match_are_refused(kinds, message):
    with pytest.raises(UserError, match=message):
        chain.check([Stage(None, *pair, name) for pair, name in zip(kinds, "ab", strict=True)])


def test_a_kind_that_nobody_has_thought_of_and_the_name_of_a_class_pass():
    kinds = [("picture", "sound"), ("sound", "class"), ("text", "text")]
    chain.check([Stage(None, *pair) for pair in kinds])


def test_order_is_kept_whatever_waits_together():
    """The gate opens once all rows are read: as many as queues hold while the second stage waits with one."""
    gate, count = threading.Event(), 2 * HANDOVER - 1

    def source():
        yield from rows(range(count))
        gate.set()

    stages = [Stage(lambda x: x + 1), Stage(lambda x: 10 * x, gate=gate), Stage(str)]
    out = list(chain.run(stages, source()))
    assert [row.name for row in out] == [str(x) for x in range(count)]
    assert [row.value for row in out] == [str(10 * (x + 1)) for x in range(count)]
    assert all(sum(stage.sizes) == count and max(stage.sizes) <= MOST_ROWS for stage in stages)


def test_what_waits_is_taken_at_once():
    waiting, many = queue.Queue(), rows(range(MOST_ROWS + 5))
    for row in many:
        waiting.put(row)
    assert chain._waiting(waiting) == (many[:MOST_ROWS], None)
    waiting.put(chain._End())
    assert chain._waiting(waiting) == (many[MOST_ROWS:], chain._End())


def test_the_first_answer_is_out_before_the_second_row_is_read():
    answered = threading.Event()

    def source():
        yield Row("0", 1)
        assert answered.wait(SECONDS)
        yield Row("1", 2)

    answers = chain.run([Stage(lambda x: x + 1), Stage(lambda x: x + 1)], source())
    assert next(answers).value == 3
    answered.set()
    assert [row.value for row in answers] == [4]


def test_a_slow_stage_bounds_how_many_rows_are_read():
    gate, read = threading.Event(), []

    def source():
        for i in range(20 * HANDOVER):
            read.append(i)
            if i == 2 * HANDOVER - 2:
                gate.set()
            yield Row(str(i), i)

    answers = chain.run([Stage(lambda x: x), Stage(lambda x: x, gate=gate)], source())
    next(answers)
    answers.close()
    # In three queues, in the hands of two stages, one in those of the reader and the first.
    assert len(read) <= 3 * HANDOVER + 2 * MOST_ROWS + 2


def test_a_row_that_fails_does_not_stop_the_others():
    def half(x):
        if x % 2:
            raise UserError(f"{x} is odd")
        return x // 2

    values = [4, 1, UserError("no such file"), 6]
    out = through([Stage(half), Stage(half)], values)
    assert [(row.error, len(row.seconds)) for row in out] == [
        ("", 2), ("1 is odd", 0), ("no such file", 0), ("3 is odd", 1)
    ]  # fmt: skip
    assert out[0].value == 1 and out[3].outputs[0].value == 3


def test_an_error_that_is_no_rows_ends_the_chain():
    def source():
        yield from rows([1, 2])
        raise UserError("cannot read lines.txt")

    answers = chain.run([Stage(lambda x: x)], source())
    with pytest.raises(UserError, match=r"lines\.txt"):
        list(answers)
    with pytest.raises(ZeroDivisionError):
        through([Stage(lambda x: x), Stage(lambda x: 1 // x), Stage(lambda x: x)], [0])


def test_later_stages_run_on_the_truth_too():
    source = [Row("0", "a", truth={0: "B", 1: "B!"}), Row("1", UserError("broken"), truth={0: "C"}), Row("2", "d")]
    first, second = Stage(str.lower), Stage(lambda text: text + "!")
    out = list(chain.run([first, second], source))
    assert [row.on_truth for row in out] == [
        {1: Output({"made": "B!"}, "B!")}, {1: Output({"made": "C!"}, "C!")}, {}
    ]  # fmt: skip
    assert [[output.value for output in row.outputs] for row in out] == [["a", "a!"], [], ["d", "d!"]]


def test_the_time_of_a_batch_is_shared_by_its_rows():
    batch = rows("abcd")
    chain.apply(Stage(lambda x: x), 0, batch)
    assert len(set(itertools.chain(*(row.seconds for row in batch)))) == 1
