"""A conversion's process: what it is given, what comes back, and its failures; and timing, by a clock of hand."""

import time

import pytest

from research.serving import forms
from research.util.errors import UserError


@pytest.fixture
def call(tmp_path):
    """`call(script)` -> what `convert` makes of a Python that is this shell script."""

    def call(script):
        python = tmp_path / "python"
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)
        return forms.convert(python, tmp_path / "run", "best", "litert", tmp_path / "bundle.part")

    return call


def test_its_last_line_is_what_was_found(call, tmp_path):
    assert call("""echo a library talks; echo '{"agreement": 1.0}'; echo and talks >&2""") == {"agreement": 1.0}
    given = call("""printf '{"on": "%s"}' "$JAX_PLATFORMS $*" """)["on"]
    assert given == f"cpu -P -m research.serving.forms {tmp_path}/run best litert {tmp_path}/bundle.part"


@pytest.mark.parametrize(
    "script, said",
    [
        ("""echo '{"refused": "LiteRT cannot hold this model: sort"}'""", "^LiteRT cannot hold this model: sort$"),
        ("echo no; echo 'out of memory' >&2; exit 3", "^the conversion to litert ended with status 3: out of memory$"),
        ("kill -9 $$", "^the conversion to litert ended with status -9: $"),
    ],
)
def test_a_conversion_that_fails_is_one_line(call, script, said):
    with pytest.raises(UserError, match=said):
        call(script)


def test_the_median_of_calls(monkeypatch):
    now, calls = [0.0], iter([9.0, 0.3, 0.1, 0.2, 0.4, 0.2])  # seconds of each call; the first is not counted

    def fn(inputs):
        now[0] += next(calls)
        return {}

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    assert forms.milliseconds(fn, {}) == pytest.approx(200)
