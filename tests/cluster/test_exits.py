"""How a command ends."""

import errno

import pytest

from research.cluster import exits
from research.cluster.rendezvous import Lost
from research.util.errors import UserError


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
