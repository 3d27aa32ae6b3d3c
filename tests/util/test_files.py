"""A file is written whole or not at all."""

import errno
import os
import threading

import pytest

from research.util import files


def test_a_link_in_the_way_of_a_file_is_replaced(tmp_path):
    (tmp_path / "other").write_text("mine")
    for name in ("a.json", "a.json.part"):
        (tmp_path / name).symlink_to("other")
    files.write_text(tmp_path / "a.json", "new")
    assert (tmp_path / "other").read_text() == "mine" and (tmp_path / "a.json").read_text() == "new"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "other"]


def test_a_file_that_does_not_fit_leaves_nothing(small_disk):
    files.write_text(small_disk / "config.json", "{}")
    with pytest.raises(OSError) as error:
        files.write_text(small_disk / "config.json", "x" * 10**6)
    assert error.value.errno == errno.ENOSPC
    assert [p.name for p in small_disk.iterdir()] == ["config.json"]
    assert (small_disk / "config.json").read_text() == "{}"


def test_two_threads_write_one_file(tmp_path):
    path, texts = tmp_path / "files.json", [str(n) * 10_000 for n in range(8)]
    threads = [threading.Thread(target=files.write_text, args=(path, text)) for text in texts * 5]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts and [p.name for p in tmp_path.iterdir()] == ["files.json"]


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    files.write_json(path, {"a": [1, 2.5]})
    assert files.read_json(path) == {"a": [1, 2.5]} and path.read_text().endswith("}\n")

    def fail(*args):
        raise OSError("killed")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="killed"):
        files.write_json(path, {"a": 3})
    assert files.read_json(path) == {"a": [1, 2.5]} and [p.name for p in tmp_path.iterdir()] == ["config.json"]
