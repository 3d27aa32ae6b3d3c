"""A run directory's files are read or a line names the file, the place and the fault."""

import json
import os

import pytest

from research.util import run_files
from research.util.errors import UserError
from research.util.run_files import COUNT, NUMBER, TEXT, Shape, each, many, maybe

SHAPE = Shape({"step": COUNT}, {"name": maybe(TEXT), "values": each(NUMBER), "lines": many(TEXT)})


@pytest.mark.parametrize(
    "text, fault",
    [
        (b"{", "not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1)): '{'"),
        (b"[1]", "wanted an object, not [1]"),
        (b"{}", "'step' is missing"),
        (b'{"step": "1"}', "'step': wanted a whole number from 0, not '1'"),
        (b'{"step": true}', "'step': wanted a whole number from 0, not True"),
        (b'{"step": 1.0}', "'step': wanted a whole number from 0, not 1.0"),
        (b'{"step": -1}', "'step': wanted a whole number from 0, not -1"),
        (b'{"step": 9007199254740993}', "'step': wanted a whole number from 0, not 9007199254740993"),
        (b'{"step": 1, "name": 3}', "'name': wanted a text or null, not 3"),
        (b'{"step": 1, "values": []}', "'values': wanted an object whose values are each a number, not []"),
        (
            b'{"step": 1, "values": {"a": "b"}}',
            "'values': wanted an object whose values are each a number, not {'a': 'b'}",
        ),
        (b'{"step": 1, "values": {"a": 1' + 400 * b"0" + b"}}", "'values': wanted an object"),
        (b'{"step": 1, "lines": [1]}', "'lines': wanted a list whose members are each a text, not [1]"),
        (b'{"step": ' + 100 * b"[" + 100 * b"]" + b"}", "nested deeper than 64 levels"),
        (b'{"step": ' + 100_000 * b"[" + 100_000 * b"]" + b"}", "nested deeper than 64 levels"),
        (b'{"step": 1' + 5000 * b"0" + b"}", "not JSON (Exceeds the limit"),
        (b'{"step": 1}\xff', "not UTF-8 at byte 11"),
    ],
    ids=range(17),
)
def test_faults_of_an_object(tmp_path, text, fault):
    (tmp_path / "a.json").write_bytes(text)
    with pytest.raises(UserError) as error:
        run_files.read_object(tmp_path / "a.json", SHAPE)
    assert str(error.value).startswith(f"{tmp_path / 'a.json'}: {fault}")
    assert len(str(error.value)) < len(str(tmp_path)) + 250


def test_an_object_as_it_should_be(tmp_path):
    about = {"step": 2, "name": None, "values": {"a": 1, "b": float("inf")}, "lines": ["x"], "more": [[1]]}
    (tmp_path / "a.json").write_text(json.dumps(about))
    assert run_files.read_object(tmp_path / "a.json", SHAPE) == about


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, fault in (("nowhere", "no such file"), ("pipe", "no regular file"), (".", "Is a directory")):
        with pytest.raises(UserError, match=fault):
            run_files.read_bytes(tmp_path / name)


def test_lines(tmp_path):
    log = tmp_path / "a.jsonl"
    log.write_bytes(b'{"step": 1}\nnonsense\n{"step": 2, "name": "a\xe2\x80\xa8b"}\n\xff\n{"step": 3}\n{"st')
    read = run_files.read_log(log, SHAPE)
    assert [line.row and line.row["step"] for line in read.lines] == [1, None, 2, None, 3]
    assert read.cut == b'{"st'
    assert read.faults()[1] == "line 4: not UTF-8 at byte 0"
    with pytest.raises(UserError, match=r"a.jsonl, line 2: not JSON \(.*\): 'nonsense'; line 4: not UTF-8 at byte 0$"):
        run_files.read_rows(log, SHAPE)
    log.write_bytes(b'{"step": 1}\n{"step": 2}')  # without its end of line the last is whole
    assert run_files.read_rows(log, SHAPE) == [{"step": 1}, {"step": 2}]
    log.write_bytes(b"x\n" * 10)
    with pytest.raises(UserError, match="line 3: .*; and 7 more lines$"):
        run_files.read_rows(log, SHAPE)


def test_links_that_lead_out(tmp_path):
    run, other = tmp_path / "run", tmp_path / "other"
    (run / "deep").mkdir(parents=True)
    other.mkdir()
    (other / "a").write_text("secret")
    (run / "b").write_text("mine")
    for name, target in (("file", "../other/a"), ("folder", "../other"), ("gone", "../nowhere"), ("up", "..")):
        (run / name).symlink_to(target)
    (run / "loop").symlink_to("loop")
    (run / "inner").symlink_to("b")
    for name in ("file", "folder/a", "gone", "up/other/a", "../other/a", str(other / "a")):
        with pytest.raises(UserError, match="a link that leads out of the run directory"):
            run_files.inside(run, name)
    assert run_files.read_text(run_files.inside(run, "inner")) == "mine"
    with pytest.raises(UserError, match="cannot read .*loop"):
        run_files.read_text(run_files.inside(run, "loop"))
    (tmp_path / "alias").symlink_to("run")  # how the user names the run is no matter
    assert run_files.read_text(run_files.inside(tmp_path / "alias", "b")) == "mine"


def test_a_file_too_large_to_parse_is_not_read(tmp_path):
    with open(tmp_path / "config.json", "wb") as file:
        file.truncate(2**28)  # takes no room
    with pytest.raises(UserError, match="config.json: 268,435,456 bytes, where such a file has at most 67,108,864"):
        run_files.read_object(tmp_path / "config.json")
