"""Which tests `almanac test` chooses, and what they may reach."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from research.util.errors import UserError
from tests.contract import tiers
from tools.dev import test as tool

ROOT = Path(__file__).resolve().parents[3]


def test_selection():
    quick = "(not contract or quick)"
    assert tool.selection([], []) == f"{quick} and not slow and not gpu and not docs"
    assert (
        tool.selection([], ["data", "parity"])
        == f"{quick} and not slow and not gpu and not docs and not data and not parity"
    )
    assert tool.selection(["slow"], ["data"]) == f"(slow) and {quick} and not gpu and not docs and not data"
    assert tool.selection(["data", "docs"], []) == f"(data or docs) and {quick} and not slow and not gpu"
    assert tool.selection(["contract"], []) == "(contract) and not slow and not gpu and not docs"


def test_data_without_a_mirror_fails_at_once(monkeypatch):
    monkeypatch.delenv("ALMANAC_MIRROR", raising=False)
    monkeypatch.setattr(pytest, "main", lambda args: pytest.fail("the tests were started"))
    with pytest.raises(UserError, match="set ALMANAC_MIRROR"):
        tool.main(["--data"])


def test_arguments_reach_pytest(monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(pytest, "main", lambda args: calls.append(args) or 3)
    monkeypatch.delenv("ALMANAC_MIRROR", raising=False)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert tool.main(["-k", "loss", "-n", "2", "--maxfail=1", f"{__file__}::test_selection"]) == 3
    (args,) = calls
    assert args[-2:] == ["--maxfail=1", f"{__file__}::test_selection"]
    assert "--numprocesses=2" in args
    assert args[args.index("-k") + 1] == "loss"
    assert "not data" in args[args.index("-m") + 1]
    assert "no data mirror" in capsys.readouterr().out
    tool.main([])
    assert calls[1][-1].endswith("tests")


def test_eight_devices():
    import jax

    assert jax.device_count() == 8


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "example.org"])
def test_other_machines_are_out_of_reach(host):
    with pytest.raises(ConnectionError, match=f"may not use the network.*{host}"):
        socket.create_connection((host, 80), timeout=1)
    if not host.endswith("org"):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as s, pytest.raises(ConnectionError, match=host):
            s.connect_ex((host, 80))


def test_loopback_and_local_sockets_are_in_reach(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(("localhost", server.getsockname()[1]), timeout=5).close()
    monkeypatch.chdir(tmp_path)  # the path of a local socket must be short
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind("s")
        server.listen()
        client.connect("s")


def test_what_one_worker_runs():
    assert tiers.scope("tests/contract/in_process/test_contract.py::test_it_resumes[gan-2]") == "gan"
    assert tiers.scope("tests/contract/processes/test_processes.py::test_two[2-language_model]") == "language_model"
    assert (
        tiers.scope("tests/contract/test_determinism.py::test_other_meshes[plan-0]")
        == "tests/contract/test_determinism.py"
    )
    assert tiers.scope("tests/test_gpu.py::test_a[gan]") == "tests/test_gpu.py"
    page = "tests/docs/test_readme.py::test_every_command_works[docs/lora.md]"
    assert (
        tiers.scope(page) == page != tiers.scope("tests/docs/test_readme.py::test_every_command_is_one[docs/lora.md]")
    )


def test_a_test_that_ends_its_worker_fails_alone(tmp_path):
    """Real workers: with pytest-xdist's own grouping the other worker runs it too, and then all wait for ever."""
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_xdist_make_scheduler\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    tests = "import os, pytest\n@pytest.mark.parametrize('i', range(6))\ndef test_a(i):\n    i != ENDS or os._exit(3)\n"
    for name, ends in {"a": "2", "b": "-1", "c": "-1", "d": "-1"}.items():
        (tmp_path / f"test_{name}.py").write_text(tests.replace("ENDS", ends))
    words = [sys.executable, "-m", "pytest", "-n", "2", "--dist=loadscope", "-p", "no:cacheprovider", "."]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert "crashed while running 'test_a.py::test_a[2]'" in done.stdout
    assert "1 failed, 23 passed" in done.stdout, done.stdout


def test_a_file_is_one_workers():
    """Real workers: pytest-xdist's own grouping once ceased in silence, and fixtures were made twice."""
    words = [
        "-m",
        "pytest",
        "tests/util/test_escape.py",
        "tests/util/test_markup.py",
        "-n",
        "2",
        "-v",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
    ran = set(re.findall(r"^\[(gw\d)\].* (tests/\S+\.py)::", done.stdout, re.M))
    assert len(ran) == 2 and {file for _, file in ran} == {"tests/util/test_escape.py", "tests/util/test_markup.py"}
