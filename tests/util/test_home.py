"""Where things are kept for a user with a home, and for one without."""

import os
import pwd
import stat
import tempfile
from pathlib import Path

import pytest

from research.util import home
from research.util.errors import UserError


def test_the_cache_of_a_user_with_a_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert home.cache_folder() == Path("/home/someone/.cache")
    assert home.expanded("~/a", "data.path") == Path("/home/someone/a")
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert home.cache_folder() == Path("/elsewhere")


@pytest.fixture
def homeless(monkeypatch, tmp_path):
    """A user whom neither HOME nor the list of users knows."""
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_user_without_a_home_has_a_private_folder(homeless, monkeypatch):
    folder = home.cache_folder()
    assert folder.parent == homeless and stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert home.cache_folder() == folder
    with pytest.raises(UserError, match="ALMANAC_DATA = ~/a: this user has no home folder"):
        home.expanded("~/a", "ALMANAC_DATA")
    monkeypatch.setattr(os, "getuid", lambda: 54_321)
    (homeless / "cache-of-user-54321").mkdir()
    with pytest.raises(UserError, match="cache-of-user-54321 is not this user's"):
        home.cache_folder()
