"""The table of times, by hand."""

from types import SimpleNamespace

from research.serving.chain import Row
from tools.verbs import pipe_table


def test_medians_errors_and_shares():
    """Of stage a 1, 2 and 9 ms, of stage b 6 ms: medians 2 and 6, and 95 % of the way from 1 over 2 to 9 is 8.3."""
    stages = [SimpleNamespace(name="a"), SimpleNamespace(name="b\x1b")]
    rows = [Row("0", None, seconds=[0.001, 0.006]), Row("1", None, seconds=[0.002], error="too long")]
    rows += [Row("2", None, seconds=[0.009], error="empty"), Row("3", None, error="broken")]
    head, *lines = pipe_table.lines(stages, rows, [])
    assert [line.split() for line in lines] == [
        ["1", "a", "3", "1", "2.000", "8.300", "25%"], ["2", "b\\x1b", "1", "2", "6.000", "6.000", "75%"]
    ]  # fmt: skip
    assert len({len(line) for line in (head, *lines)}) == 1


def test_no_row_is_no_time():
    (line,) = pipe_table.lines([SimpleNamespace(name="a")], [], [])[1:]
    assert line.split() == ["1", "a", "0", "0", "0.000", "0.000", "0%"]
