"""The `almanac` script in a copied folder. What it would install and start is noted, not done."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tomllib
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def executable(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def load(folder: Path):
    """The script of `folder` as a module."""
    loader = SourceFileLoader("almanac_script", str(folder / "almanac"))
    script = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(script)
    return script


@pytest.fixture
def checkout(tmp_path):
    """A folder with the script, locks and a project; its `path/` is to come first on PATH."""
    folder = tmp_path / "checkout"
    (folder / "path").mkdir(parents=True)
    shutil.copy(ROOT / "almanac", folder)
    (folder / "requirements.lock").write_text("# core\n")
    (folder / "requirements-dev.lock").write_text("# dev\n")
    (folder / "pyproject.toml").write_text('[project]\nname = "nothing"\nversion = "1"\n')
    return folder


@pytest.fixture
def call(monkeypatch):
    """`call(folder, *args)` -> (the commands run, the command that takes over)."""
    monkeypatch.setenv("PATH", "")  # no uv
    # Each call is a process to itself, whose lock its end releases.
    monkeypatch.setattr("fcntl.flock", lambda *args: None)

    def call(folder, *args):
        script, commands, handovers = load(folder), [], []

        def run(*command):
            commands.append(" ".join(command))
            if "venv" in command:
                shutil.rmtree(command[-1], ignore_errors=True)
                executable(Path(command[-1]) / "bin" / "python", "exit 0")

        monkeypatch.setattr(script, "run", run)
        monkeypatch.setattr(os, "execv", lambda path, command: handovers.append(command))
        script.main(list(args))
        return commands, handovers[0]

    return call


@pytest.mark.parametrize(
    "verb, venv, lock",
    [
        ("train", ".venv", "requirements.lock"),
        ("test", ".venv-dev", "requirements-dev.lock"),
        ("benchmark", ".venv-dev", "requirements-dev.lock"),
    ],
)
def test_the_first_call_installs_and_the_next_goes_straight_on(checkout, call, verb, venv, lock):
    commands, handover = call(checkout, verb, "a b", "--x=1")
    python, install = f"{checkout}/{venv}/bin/python", "-m pip install"
    assert commands == [
        f"{sys.executable} -m venv --clear {checkout}/{venv}",
        f"{python} {install} --quiet --no-deps --require-hashes -r {checkout}/{lock}",
        f"{python} {install} --quiet --no-deps --no-build-isolation -e {checkout}",
    ]
    assert handover == [python, "-P", "-m", "tools.cli", verb, "a b", "--x=1"]
    assert call(checkout, verb) == ([], [python, "-P", "-m", "tools.cli", verb])


@pytest.mark.parametrize(
    "to, made",
    [
        (["--to", "onnx"], ["-onnx", ""]),
        (["--to=litert-int8"], ["-litert", ""]),
        (["--to", "litert,onnx"], ["-onnx", "-litert", ""]),
        (["--to=huggingface"], [""]),
        ([], [""]),
    ],
)
def test_an_export_has_its_converters_environments_made_and_runs_in_its_own(checkout, call, to, made):
    for kind in ("-onnx", "-litert"):
        (checkout / f"requirements{kind}.lock").write_text(f"# {kind}\n")
    commands, handover = call(checkout, "export", "run", *to)
    venvs = [command.split()[-1] for command in commands if "venv --clear" in command]
    assert venvs == [f"{checkout}/.venv{kind}" for kind in made]
    assert handover[0] == f"{checkout}/.venv/bin/python"


@pytest.mark.parametrize("name", ["requirements.lock", "pyproject.toml"])
def test_a_changed_lock_or_project_updates_in_place(checkout, call, name, capsys):
    call(checkout, "train")
    with (checkout / name).open("a") as file:
        file.write("# changed\n")
    capsys.readouterr()
    commands, _ = call(checkout, "train")
    assert len(commands) == 2 and not any(" -m venv " in command for command in commands)
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert call(checkout, "train")[0] == []


def test_a_moved_folder_is_installed_again(checkout, call, tmp_path):
    call(checkout, "train")
    commands, _ = call(checkout.rename(tmp_path / "moved"), "train")
    assert commands[-1].endswith(f"-e {tmp_path}/moved")


@pytest.mark.parametrize("update", [False, True])
def test_an_interrupted_install_begins_anew(checkout, call, update, monkeypatch, capsys):
    if update:
        call(checkout, "train")
        (checkout / "requirements.lock").write_text("# changed\n")
    script = load(checkout)

    def interrupted(*command):
        if "-r" in command:
            raise KeyboardInterrupt
        executable(checkout / ".venv" / "bin" / "python", "exit 0")

    monkeypatch.setattr(script, "run", interrupted)
    with pytest.raises(SystemExit) as stop:
        script.main(["train"])
    assert stop.value.code == 2
    assert "interrupted; the next call begins it anew" in capsys.readouterr().err
    commands, _ = call(checkout, "train")
    assert len(commands) == 3 and "venv --clear" in commands[0]


def test_a_vanished_python_is_replaced(checkout, call):
    call(checkout, "train")
    (checkout / ".venv" / "bin" / "python").unlink()
    assert len(call(checkout, "train")[0]) == 3


def test_an_old_python_is_refused_or_hands_over(checkout, monkeypatch, capsys):
    script = load(checkout)
    monkeypatch.setattr(sys, "version_info", (3, 10, 13))
    monkeypatch.setenv("PATH", str(checkout / "path"))
    executable(checkout / "path" / "python3.12", "exit 127")  # the shim of a version not there
    with pytest.raises(SystemExit) as refused:
        script.ensure_python(["train"])
    assert refused.value.code == 2
    assert "needs Python 3.11, 3.12 or 3.13; this is 3.10" in capsys.readouterr().err

    class Handover(Exception):
        pass

    def execv(path, command):
        raise Handover(command)

    executable(checkout / "path" / "python3.11", "exit 0")
    monkeypatch.setattr(os, "execv", execv)
    with pytest.raises(Handover) as handover:
        script.ensure_python(["train"])
    python = str(checkout / "path" / "python3.11")
    assert handover.value.args == ([python, str(checkout / "almanac"), "train"],)


def test_the_script_parses_on_python_3_6():
    parse = "import ast, sys; ast.parse(open(sys.argv[1]).read(), feature_version=(3, 6))"
    subprocess.run([sys.executable, "-c", parse, ROOT / "almanac"], check=True)


def test_a_failed_install_is_one_line_and_leaves_no_stamp(checkout):
    """Whole, with a true virtual environment and a sham uv."""
    failing = "echo downloading; echo 'error: no jax here' >&2; echo more; exit 1"
    executable(checkout / "path" / "uv", failing)
    path = f"{checkout / 'path'}:{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, checkout / "almanac", "train"],
        capture_output=True,
        text=True,
        env=os.environ | {"PATH": path},
    )
    assert done.returncode == 2
    making, failed = done.stderr.splitlines()
    assert making == f"almanac: making {checkout}/.venv (once, about a minute)"
    assert failed.startswith("almanac: the install failed: error: no jax here (for more: ")
    assert (checkout / ".venv" / "bin" / "python").exists()
    assert not (checkout / ".venv" / "almanac.stamp").exists()


@pytest.mark.parametrize(
    "lock, extras",
    [
        ("requirements.lock", []),
        ("requirements-onnx.lock", ["onnx"]),
        ("requirements-litert.lock", ["litert"]),
        ("requirements-dev.lock", ["dev"]),
    ],
)
def test_the_locks_hold_what_the_project_asks_for_and_name_no_place(lock, extras):
    text = (ROOT / lock).read_text()
    assert not any(mark in text for mark in ("://", "--find-links", "--index", "file:"))
    pins = [line for line in text.splitlines() if "==" in line and not line.startswith(" ")]
    assert all(f"{pin}\n    --hash=sha256:" in text for pin in pins)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = project["project"]["dependencies"] + project["dependency-groups"]["build"]
    for extra in extras:
        asked = asked + project["project"]["optional-dependencies"][extra]
    names = {line.split(">=")[0].split("[")[0].replace("_", "-").lower() for line in asked}
    assert names <= {pin.split("==")[0] for pin in pins}


@pytest.mark.parametrize(
    "given, expected",
    [
        ({}, "glibc.malloc.hugetlb=1"),
        ({"GLIBC_TUNABLES": "glibc.malloc.arena_max=1"}, "glibc.malloc.arena_max=1:glibc.malloc.hugetlb=1"),
        ({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}, "glibc.malloc.hugetlb=0"),
        ({"ALMANAC_CPU_TUNING": "off"}, None),
    ],
)
def test_huge_pages_are_asked_for_unless_the_user_said_otherwise(monkeypatch, given, expected):
    script = load(ROOT)
    monkeypatch.setattr(script.glob, "glob", lambda pattern: [])
    for name in ("GLIBC_TUNABLES", "ALMANAC_CPU_TUNING"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    script.use_huge_pages()
    assert os.environ.get("GLIBC_TUNABLES") == expected


def test_beside_an_accelerator_pages_stay_as_they_are(monkeypatch):
    script = load(ROOT)
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setattr(script.glob, "glob", lambda pattern: ["/dev/nvidia0"] if "nvidia" in pattern else [])
    script.use_huge_pages()
    assert "GLIBC_TUNABLES" not in os.environ
