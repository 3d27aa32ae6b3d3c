"""How a command ends."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from research.cluster import exits
from research.cluster.rendezvous import Lost
from research.util.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (None, 0, ""),
        (UserError("seed = 'x': wanted int"), 2, "almanac: seed = 'x': wanted int\n"),
        (Lost("host 1 is silent"), 75, "almanac: host 1 is silent\n"),
        (KeyboardInterrupt(), 130, "almanac: interrupted"),
    ],
)
def test_a_mistake_is_one_line_and_a_status(capsys, error, status, says):
    def go():
        if error:
            raise error
        return 0

    assert exits.guarded(go) == status
    err = capsys.readouterr().err
    assert err.startswith(says)
    assert err.count("\n") == (error is not None)


def test_a_full_disk_is_one_line(capsys):
    def fill():
        raise OSError(errno.ENOSPC, "No space left", "a.png")

    assert exits.guarded(fill) == 2
    assert capsys.readouterr().err == "almanac: no space left to write a.png; free some and start again\n"


def test_a_bug_is_no_mistake_of_the_users():
    def fault():
        raise OSError(errno.EIO, "broken")

    with pytest.raises(OSError, match="broken"):
        exits.guarded(fault)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_what_a_terminal_has_no_character_for_is_a_question_mark(encoding):
    code = "from research.cluster.exits import guarded; guarded(lambda: print('a\\u00e9\\u4e2d') or 0)"
    environ = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, timeout=60)
    shown = {"ascii": "a??", "latin-1": "a\u00e9?", "utf-8": "a\u00e9\u4e2d"}[encoding]
    assert (done.returncode, done.stderr) == (0, b"") and done.stdout.decode(encoding) == f"{shown}\n"


def test_a_name_that_is_too_long_is_one_line(capsys):
    def touch():
        raise OSError(errno.ENAMETOOLONG, "File name too long", "a" * 5000)

    assert exits.guarded(touch) == 2
    err = capsys.readouterr().err
    assert err.endswith(": the name is too long for a file\n") and len(err) < 200


SAYS = """
import sys
from research.cluster import exits
def go():
    for _ in range({lines}):
        print("a line", flush={flush})
    {end}
sys.exit(exits.guarded(go))
"""


@pytest.mark.parametrize("lines", [3, 100_000])
@pytest.mark.parametrize("flush", [True, False])
@pytest.mark.parametrize("end", ["return 0", "sys.exit(0)"])
def test_a_reader_that_leaves_ends_the_command_quietly(lines, flush, end):
    """As `almanac list | head`: also where all is still in a buffer when Python ends."""
    command = [sys.executable, "-c", SAYS.format(lines=lines, flush=flush, end=end)]
    read, write = os.pipe()
    os.close(read)  # it has left already
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, env=environ, timeout=60)
    os.close(write)
    assert (done.returncode, done.stderr) == (exits.CLOSED_PIPE, "")


def test_another_connections_broken_pipe_is_an_error():
    def go():
        raise BrokenPipeError(errno.EPIPE, "a socket")

    with pytest.raises(BrokenPipeError, match="a socket"):
        exits.guarded(go)
