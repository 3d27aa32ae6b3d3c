"""The code that a run is made of: what is imported and not installed."""

import importlib
import sys

from research.run import sources


def test_the_project_s_modules_and_a_user_s_own(tmp_path, monkeypatch):
    (tmp_path / "my_loss.py").write_text("SIGN = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = sources.imported()
    assert before["research/run/sources.py"] and "research/util/errors.py" in before
    assert not any(name.startswith(("tools/", "tests/")) or "site-packages" in name for name in before)
    assert not any(name.endswith("/json/__init__.py") for name in before)  # the standard library
    importlib.import_module("my_loss")
    try:
        now = sources.imported()
        assert now.keys() - before.keys() == {str(tmp_path / "my_loss.py")}
        assert sources.edited(before, now) == []  # imported by one attempt alone
        (tmp_path / "my_loss.py").write_text("SIGN = -1\n")
        assert sources.edited(now, sources.imported()) == [str(tmp_path / "my_loss.py")]
        assert sources.digest(now) != sources.digest(sources.imported())
    finally:
        del sys.modules["my_loss"]
