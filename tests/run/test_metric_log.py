"""What a run writes as text: whole lines, no NaN, nothing of a life that was lost."""

import json
import struct
import subprocess
import threading

import pytest

from research.run import metric_log
from research.run.metric_log import RunLogger
from research.util.errors import UserError


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def log(folder, steps, begin=0, writes=True):
    logs = RunLogger(folder, begin, 10, writes)
    for step in steps:
        logs.write(step, "train", {"loss": step / 2})
        logs.time(step, {"seconds": 0.5, "examples_per_s": 100.0}, {"loss": step / 2})
    logs.flush()
    logs.close()


def test_an_object_a_line(tmp_path):
    log(tmp_path, [1, 2])
    first = '{"step": 1, "split": "train", "values": {"loss": 0.5}}\n'
    assert (tmp_path / "metrics.jsonl").read_text().startswith(first)
    assert lines(tmp_path / "metrics.jsonl")[1]["values"] == {"loss": 1.0}
    assert lines(tmp_path / "timing.jsonl")[0] == {"step": 1, "seconds": 0.5, "examples_per_s": 100.0}


def test_a_double_comes_back_exactly(tmp_path):
    logs = RunLogger(tmp_path, 0, 10, True)
    logs.write(1, "valid", {"loss": 0.1 + 0.2})
    logs.close()
    assert lines(tmp_path / "metrics.jsonl")[0]["values"]["loss"] == 0.1 + 0.2


def test_what_is_not_finite_is_null(tmp_path):
    logs = RunLogger(tmp_path, 0, 10, True)
    logs.write(1, "valid", {"a": float("nan"), "b": float("inf"), "c": 1})
    logs.close()
    text = (tmp_path / "metrics.jsonl").read_text()
    assert text == '{"step": 1, "split": "valid", "values": {"a": null, "b": null, "c": 1.0}}\n'


def test_lines_of_later_steps_go(tmp_path):
    log(tmp_path, range(1, 7))
    log(tmp_path, [5], begin=4)
    for name in ("metrics.jsonl", "timing.jsonl"):
        assert [line["step"] for line in lines(tmp_path / name)] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("cut", [b'{"step": 2, "spl', b'{"step": 2, "values": {}}', b"\x00\x00"])
def test_a_line_that_a_kill_cut_short_goes(tmp_path, capsys, cut):
    log(tmp_path, [1])
    whole = (tmp_path / "metrics.jsonl").read_bytes()
    (tmp_path / "metrics.jsonl").write_bytes(whole + cut)
    log(tmp_path, [], begin=9)
    assert (tmp_path / "metrics.jsonl").read_bytes() == whole
    assert sorted(p.name for p in tmp_path.iterdir() if "events" not in p.name) == ["metrics.jsonl", "timing.jsonl"]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "broken, fault",
    [
        (b"\x00\x00\n", "not JSON"),
        (b"\xff\n", "not UTF-8 at byte 0"),
        (b"3\n", "wanted an object, not 3"),
        (b"[]\n", "wanted an object, not []"),
        (b"{}\n", "'step' is missing"),
        (b'{"step": "1", "split": "train", "values": {}}\n', "'step': wanted a whole number from 0, not '1'"),
        (b'{"step": 1, "split": "train", "values": {"loss": "low"}}\n', "'values': wanted an object"),
        (b"[" * 100_000 + b"\n", "nested deeper than 64 levels"),
    ],
    ids=range(8),
)
def test_a_line_that_cannot_be_read_is_named_and_kept_aside(tmp_path, capsys, broken, fault):
    log(tmp_path, [1, 2])
    first, second = (tmp_path / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "metrics.jsonl").write_bytes(first + broken + second)
    log(tmp_path, [], begin=9)
    assert (tmp_path / "metrics.jsonl").read_bytes() == first + second
    assert (tmp_path / "metrics.jsonl.unreadable").read_bytes() == broken
    said = capsys.readouterr().out
    name = "metrics.jsonl: 1 line could not be read, moved to metrics.jsonl.unreadable"
    assert said.startswith(f"{name}: line 2: {fault}") and said.count("\n") == 1
    with open(tmp_path / "metrics.jsonl", "ab") as file:
        file.write(broken + broken)
    log(tmp_path, [], begin=1)  # nothing that was kept aside before is lost, and later lines go as ever
    assert (tmp_path / "metrics.jsonl").read_bytes() == first
    assert (tmp_path / "metrics.jsonl.unreadable").read_bytes() == 3 * broken
    assert "2 lines could not be read" in capsys.readouterr().out


def test_a_last_line_without_its_end_is_kept(tmp_path):
    """As an editor leaves it. A kill does not: what is of no later step than the checkpoint is on the disk whole."""
    log(tmp_path, [1, 2])
    whole = (tmp_path / "metrics.jsonl").read_bytes()
    (tmp_path / "metrics.jsonl").write_bytes(whole[:-1])
    log(tmp_path, [], begin=2)
    assert (tmp_path / "metrics.jsonl").read_bytes() == whole


@pytest.mark.parametrize("name", ["metrics.jsonl", "timing.jsonl", "samples", "metrics.jsonl.unreadable"])
def test_a_link_that_leads_out_is_not_followed(tmp_path, name):
    run, other = tmp_path / "run", tmp_path / "other"
    run.mkdir()
    log(run, [1])
    (run / "metrics.jsonl").write_text("nonsense\n")
    (run / name).unlink(missing_ok=True)
    other.write_text("mine")
    (run / name).symlink_to(other)
    with pytest.raises(UserError, match=f"{name}: a link that leads out of the run directory"):
        log(run, [2], begin=1)
    assert other.read_text() == "mine"


def test_nothing_logged_leaves_no_tensorboard_file(tmp_path):
    log(tmp_path, [])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["metrics.jsonl", "timing.jsonl"]


def test_only_one_process_writes(tmp_path, capsys):
    log(tmp_path, [1, 2], writes=False)
    logs = RunLogger(tmp_path, 0, 10, False)
    logs.say("hello")
    logs.close()
    assert not list(tmp_path.iterdir()) and capsys.readouterr().out == ""


def test_evaluations_are_told_on_the_terminal(tmp_path, capsys):
    logs = RunLogger(tmp_path, 0, 10, True)
    logs.write(5, "train", {"loss": 1.0})
    logs.write(5, "valid", {"loss": 2.0, "accuracy": 0.25})
    logs.close()
    out, err = capsys.readouterr()
    assert out.split() == ["step", "5", "valid", "loss", "2.0000", "accuracy", "0.2500"]
    assert err == ""  # no progress bar where there is no terminal


def events(folder):
    """TensorBoard's records: u64 length, u32 checksum, an Event, u32 checksum."""
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted(folder.glob("events.out.*")):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (size,) = struct.unpack_from("<Q", content, at)
            yield Event.FromString(content[at + 12 : at + 12 + size])
            at += size + 16


def test_tensorboard_has_the_same_scalars_and_forgets_lost_steps(tmp_path):
    log(tmp_path, [1, 2, 3])
    log(tmp_path, [3], begin=2)
    found = list(events(tmp_path))
    scalars = [(e.step, v.tag, v.simple_value) for e in found for v in e.summary.value]
    assert {(1, "train/loss", 0.5), (2, "train/loss", 1.0), (2, "timing/examples_per_s", 100.0)} <= set(scalars)
    assert [e.step for e in found if e.session_log.status == e.session_log.START] == [3]


def test_a_checkpoint_finds_the_events_on_the_disk(tmp_path):
    logs = RunLogger(tmp_path, 0, 10, True)
    logs.write(1, "valid", {"loss": 0.5})
    logs.flush()
    assert [v.tag for e in events(tmp_path) for v in e.summary.value] == ["valid/loss"]
    logs.close()


def test_events_need_no_thread(tmp_path):
    before = threading.active_count()
    logs = RunLogger(tmp_path, 0, 10, True)
    logs.write(1, "valid", {"loss": 0.5})
    assert threading.active_count() == before
    logs.close()


def test_a_disk_that_fills_up_is_told_once_and_loses_no_line(small_disk):
    logs, steps = RunLogger(small_disk, 0, 10**6, True), range(1, 10**4)
    with pytest.raises(UserError) as error:
        for step in steps:
            logs.write(step, "train", {"loss": step / 2})
            logs.time(step, {"seconds": 0.5, "examples_per_s": 100.0}, {"loss": step / 2})
    assert str(error.value) == f"no space left to save under {small_disk}; free some and start again: it resumes"
    logs.close()
    whole = [json.loads(line)["step"] for line in (small_disk / "metrics.jsonl").read_text().splitlines()[:-1]]
    assert len(whole) > 100 and whole == list(range(1, len(whole) + 1))
    subprocess.run(["mount", "-o", "remount,size=10M", small_disk], check=True)
    log(small_disk, [whole[-1] + 1], begin=whole[-1])
    assert [line["step"] for line in lines(small_disk / "metrics.jsonl")] == [*whole, whole[-1] + 1]


def test_a_clock_that_goes_back_changes_nothing(tmp_path, monkeypatch):
    """By an hour, in the middle of the run."""
    now, logs = iter([1e9, 1e9 + 1]), RunLogger(tmp_path, 0, 10, True)
    monkeypatch.setattr(metric_log.time, "time", lambda: next(now, 1e9 - 3600))
    for step in range(1, 9):
        logs.write(step, "train", {"loss": step / 2})
    logs.flush()
    logs.close()
    assert [line["step"] for line in lines(tmp_path / "metrics.jsonl")] == list(range(1, 9))
    assert [e.step for e in events(tmp_path) if e.summary.value] == list(range(1, 9))


def test_rates_are_between_marks_and_not_between_readings(monkeypatch):
    """Two intervals of ten steps, marked at 2 and 6 seconds, read together at 9."""
    times = iter([0.0, 2.0, 6.0])
    monkeypatch.setattr(metric_log.time, "perf_counter", lambda: next(times, 9.0))
    clock = metric_log.Clock(100.0, 0)
    clock.mark(10)
    clock.mark(20)
    units = {"examples": 4}
    assert clock.rates(10, units, None) == {"seconds": 102.0, "examples_per_s": 20.0}
    assert clock.rates(20, units, 0.1) == {"seconds": 106.0, "examples_per_s": 10.0, "mfu": 0.25}


def test_progress_is_told_once_a_minute_where_there_is_no_terminal(tmp_path, capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(metric_log.time, "perf_counter", lambda: clock[0])
    logs = RunLogger(tmp_path, 0, 10_000, True)
    for step, clock[0] in ((1_000, 59.0), (2_000, 60.0), (3_000, 119.0), (4_000, 121.0)):
        logs.time(step, {"seconds": 0.5, "tokens_per_s": 1234.0}, {"loss": 0.5, "accuracy": 0.1})
    logs.close()
    assert capsys.readouterr().out.splitlines() == [
        f"step   {step} of 10,000  train  loss 0.500  1,234 tokens/s" for step in ("2,000", "4,000")
    ]
