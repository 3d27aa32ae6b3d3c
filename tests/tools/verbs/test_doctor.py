"""`almanac doctor` finds nothing wrong here, and finds what is made to be wrong."""

import jax
import jax.numpy as jnp

from tools.doctor import machine
from tools.verbs import doctor


def test_a_sound_machine_is_reported_sound(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("ALMANAC_MIRROR", raising=False)
    status = doctor.main([])
    out = capsys.readouterr().out
    assert status == 0, out
    assert "WRONG" not in out
    assert f"jax                  {jax.__version__}" in out
    assert "compiled in" in out
    assert max(len(line) for line in out.replace(str(tmp_path), "/home/user/.cache").splitlines()) <= 100


def test_a_fault_sets_the_status_and_has_a_remedy(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("ALMANAC_MIRROR", str(tmp_path / "gone"))
    assert doctor.main([]) == 1
    out = capsys.readouterr().out
    assert "WRONG: no such folder; set ALMANAC_MIRROR to one, or unset it" in out
    assert "1 wrong" in out


def test_old_python_and_missing_package_are_faults():
    assert machine.python_version((3, 10, 13)).remedy
    assert not machine.python_version((3, 11, 0)).remedy
    assert machine.package("no-such-distribution").remedy
    assert not machine.package("jax").remedy


def test_mirror_lists_its_data_sets(tmp_path):
    assert "empty" in machine.mirror(str(tmp_path)).remedy
    (tmp_path / "mnist").mkdir()
    (tmp_path / "imdb").mkdir()
    (tmp_path / "README.md").touch()
    row = machine.mirror(str(tmp_path))
    assert row.value == f"{tmp_path}: imdb, mnist"
    assert not row.remedy
    assert not machine.mirror(None).remedy


def test_memory_is_what_linux_calls_available(tmp_path):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 4194304 kB\nMemFree: 1024 kB\nMemAvailable: 2097152 kB\n")
    row = machine.memory(meminfo)
    assert row.value == "2.0 GiB free of 4.0 GiB"
    assert not row.remedy
    meminfo.write_text("MemTotal: 4194304 kB\nMemAvailable: 524288 kB\n")
    assert machine.memory(meminfo).remedy


def test_a_folder_is_judged_by_where_it_would_be_made(tmp_path):
    cache = tmp_path / "a" / "b"
    assert not machine.folder("cache", cache).remedy
    cache.mkdir(parents=True)
    (cache / "program").write_bytes(bytes(3 << 20))
    assert machine.folder("cache", cache).value == f"{cache} (3.0 MiB)"
    assert machine.folder("cache", cache / "program" / "below").remedy


def test_wrong_numbers_are_noticed(monkeypatch):
    monkeypatch.setattr(jax, "grad", lambda loss: jnp.zeros_like)
    assert "numbers are wrong" in machine.compiled_step().remedy
