"""A folder's manifest: each injury is named by its file, and Orbax does not mind it in a checkpoint."""

import json
import os

import jax.numpy as jnp
import pytest
from etils import epath

from research.run import manifest
from research.run.checkpoint import Checkpoints


@pytest.fixture
def folder(tmp_path):
    """CRC-32 of "hello" is 3610a686, of "123456789" cbf43926: the check value of its definition."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "a").write_bytes(b"hello")
    (tmp_path / "deep" / "er" / "b").write_bytes(b"123456789")
    (tmp_path / "empty").write_bytes(b"")
    manifest.write(tmp_path)
    return tmp_path


def test_sizes_and_known_checksums(folder):
    found = json.loads((folder / "files.json").read_text())
    own = found.pop("files.json")
    assert found == {"a": [5, 0x3610A686], "deep/er/b": [9, 0xCBF43926], "empty": [0, 0]} and len(own) == 2
    assert manifest.exists(folder) and manifest.problems(folder) == []
    assert sorted(p.name for p in folder.iterdir()) == ["a", "deep", "empty", "files.json"]


@pytest.mark.parametrize(
    "content, problem",
    [
        (None, "a is missing"),
        (b"hell", "a is cut short: 4 of 5 bytes"),
        (b"", "a is cut short: 0 of 5 bytes"),
        (b"jello", "a has changed"),
        (b"hello!", "a has changed: 6 bytes, not 5"),
    ],
)
def test_an_injury_is_named_by_its_file(folder, content, problem):
    (folder / "a").unlink() if content is None else (folder / "a").write_bytes(content)
    assert manifest.problems(folder) == [problem]


def test_all_injuries_are_named(folder):
    (folder / "deep" / "er" / "b").write_bytes(b"12345678")
    (folder / "empty").unlink()
    (folder / "deep" / "new").touch()
    assert manifest.problems(folder) == ["deep/er/b is cut short: 8 of 9 bytes", "deep/new is new", "empty is missing"]


def test_any_flipped_bit_of_the_manifest_accuses_no_file(folder):
    path = folder / "files.json"
    whole = path.read_bytes()
    for at in range(len(whole) - 1):  # without the end of line
        for bit in range(8):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
            (line,) = manifest.problems(folder)
            assert line.startswith("files.json is damaged"), (at, bit)


def test_cut_short_or_another_json(folder):
    whole = (folder / "files.json").read_bytes()
    for content in (b"", whole[:40], b"{}", b"[]", b"3", b'{"a": 3}', b'{"a": [1]}'):
        (folder / "files.json").write_bytes(content)
        (line,) = manifest.problems(folder)
        assert line.startswith("files.json is damaged")


def test_no_manifest(folder):
    (folder / "files.json").unlink()
    assert not manifest.exists(folder) and manifest.problems(folder) == ["files.json is missing"]


def test_written_again_after_a_change(folder):
    (folder / "a").write_bytes(b"123456789")
    manifest.write(folder)
    assert manifest.scan(folder)["a"] == (9, 0xCBF43926) and manifest.problems(folder) == []


def test_a_kill_while_it_was_written_is_no_damage(folder):
    (folder / "files.json").rename(folder / "files.json.part")
    manifest.write(folder)
    assert manifest.problems(folder) == []
    (folder / "files.json.part").write_text("{")
    assert manifest.problems(folder) == []


def test_a_large_file_is_read_in_pieces(folder, monkeypatch):
    monkeypatch.setattr(manifest, "CHUNK", 2)
    assert manifest.scan(folder)["deep/er/b"] == (9, 0xCBF43926)


def test_a_link_is_damage_and_is_not_followed(folder):
    (folder / "deep" / "up").symlink_to("..")
    (folder / "out").symlink_to("/etc")
    os.mkfifo(folder / "pipe")
    assert manifest.problems(folder) == ["deep/up is a link", "out is a link", "pipe is no regular file"]
    assert "out/passwd" not in dict(manifest.files(folder))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": [1e999, 0]}', "[]", '{"a": 1}', ""])
def test_a_manifest_that_is_none_accuses_no_file(folder, text):
    (folder / "files.json").write_text(text)
    (line,) = manifest.problems(folder)
    assert line.startswith("files.json is damaged")


def test_paths_of_etils(folder):
    (folder / "files.json").unlink()
    manifest.write(epath.Path(folder))
    assert manifest.problems(epath.Path(folder)) == [] == manifest.problems(folder)
    (folder / "a").unlink()
    assert manifest.problems(epath.Path(folder)) == ["a is missing"]


def test_orbax_does_not_mind_it(tmp_path):
    """Steps are found, restored, saved again and deleted with it inside."""
    state = {"w": jnp.arange(6.0)}
    saved = Checkpoints(tmp_path, 2)
    for step in (1, 2, 3):
        saved.save(step, state, {"at": step})
        saved.wait()
        manifest.write(tmp_path / str(step))
    assert saved.steps() == [2, 3] and sorted(p.name for p in tmp_path.iterdir()) == ["2", "3"]
    saved.save(3, state, {"at": 30})  # the same step again, after a kill
    saved.close()
    assert manifest.problems(tmp_path / "2") == manifest.problems(tmp_path / "3") == []
    again = Checkpoints(tmp_path)
    assert [again.restore(state, step)[1]["at"] for step in (2, 3)] == [2, 30]
    again.close()
    assert manifest.problems(tmp_path / "2") == []  # reading changes nothing


@pytest.mark.parametrize("name", ["meta/metadata", "state/_METADATA", "files.json"])
def test_metadata_of_absurd_size_is_not_parsed(tmp_path, name):
    """Of 268 MB, which Orbax or json would read whole."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    with open(tmp_path / name, "wb") as file:
        file.truncate(2**28)  # takes no room
    assert manifest.oversized(tmp_path) == [f"{name} has 268,435,456 bytes, more than 67,108,864"]
    assert manifest.problems(tmp_path) == manifest.oversized(tmp_path)
    (tmp_path / name).write_text("{}")
    assert manifest.oversized(tmp_path) == []
