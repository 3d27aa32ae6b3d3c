"""`.ci/gpu`: its plan, what it runs and leaves, how it ends a stage, what it brings back, and its kit."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from research.core import config
from tools.results import ledger
from tools.verbs import reproduce

ROOT = Path(__file__).resolve().parents[1]
CALL = 600  # seconds that one call on a lent machine may take
SLEEP = "import time; time.sleep(60)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"


@pytest.fixture
def gpu(tmp_path, monkeypatch):
    """The script as a module, its work folder and $OUT elsewhere."""
    spec = importlib.util.spec_from_file_location("gpu_script", ROOT / ".ci" / "gpu.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_script", module)  # dataclasses look it up
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "WORK", tmp_path / "work")
    monkeypatch.setattr(module, "KIT", tmp_path / "kit")
    monkeypatch.setenv("OUT", str(tmp_path / "out"))
    return module


def python(gpu, name, statement, seconds=30, **more):
    command = ("timeit", "-n1", "-r1", statement)
    return gpu.Stage(name, seconds, command, command, **more)


def statuses(state):
    return {name: about["status"] for name, about in state.stages.items()}


# The plan


def test_every_stage_fits_into_one_call(gpu):
    assert all(gpu.GRACE * 2 <= stage.seconds <= CALL - 60 for stage in gpu.STAGES)  # a minute for packages and imports
    assert [stage.name for stage in gpu.STAGES[:3]] == ["tests", "gpt2-124m", "resnet50"]
    assert len({stage.name for stage in gpu.STAGES}) == len(gpu.STAGES)


def test_experiments_have_the_seeds_that_their_configs_state(gpu, monkeypatch):
    """And their command lines are ones that `almanac reproduce` reads."""
    calls, seeds = [], {}
    monkeypatch.setattr(reproduce, "reproduce", lambda *args, **how: calls.append((args, how)) or [])
    for stage in (stage for stage in gpu.STAGES if stage.seed is not None):
        name, _, seed = stage.name.partition("#")
        seeds.setdefault(name, []).append(int(seed))
        assert stage.command[:2] == ("tools.cli", "reproduce")
        reproduce.main(list(stage.command[2:]))
        (named, count, folder), how = calls.pop()
        assert (named, count, folder) == (name, int(seed) + 1, Path("runs/gpu") / name)
        every = config.load(name).log_every
        assert every % (how["steps_per_launch"] or 1) == 0  # a launch is not cut short where the log is written
    for name, found in seeds.items():
        stated = ledger.targets(name, config.plain(config.load(name)))
        assert found == list(range(max(target["seeds"] for target in stated))), name


def test_tiny_sizes_are_keys_of_their_configs(gpu):
    for stage in (stage for stage in gpu.STAGES if stage.seed == 0):
        overrides = [word.removeprefix("--config.") for word in stage.tiny if word.startswith("--config.")]
        assert config.load(stage.tiny[2], overrides).num_steps == 3


def test_stages_are_chosen_by_name_in_the_plans_order(gpu):
    names = [s.name for s in gpu.chosen(["gan/grid_gan#1", "language_model/shakespeare_char", "tests"])]
    assert names == ["tests", *(f"language_model/shakespeare_char#{k}" for k in range(3)), "gan/grid_gan#1"]
    assert gpu.chosen([]) == gpu.STAGES
    with pytest.raises(gpu.Mistake, match="there is no stage 'grid'"):
        gpu.chosen(["grid"])


def test_the_command_line():
    def call(*words):
        env = {**os.environ, "PYTHON": sys.executable}
        return subprocess.run([ROOT / ".ci" / "gpu", *words], capture_output=True, text=True, env=env)

    found = call("--list", "tests")
    assert (found.returncode, found.stdout) == (0, " 120 s  tests\n")
    found = call("nothing")
    assert found.returncode == 2 and found.stderr.startswith(".ci/gpu: there is no stage 'nothing'")


# Running


def test_a_failure_does_not_stop_the_rest_and_is_run_again_alone(gpu, tmp_path):
    mark = tmp_path / "ran"
    count = f"open({str(mark)!r}, 'a').write('x')"
    stages = [python(gpu, "bad", "raise SystemExit(3)"), python(gpu, "good", count)]
    assert gpu.run(stages, gpu.State(gpu.WORK), 100) == 1
    state = gpu.State(gpu.WORK)  # as another call finds it
    assert statuses(state) == {"bad": "failed", "good": "done"}
    once = mark.read_text()
    stages[0] = python(gpu, "bad", "pass")
    assert gpu.run(stages, state, 100) == 0
    assert statuses(state) == {"bad": "done", "good": "done"}
    assert mark.read_text() == once
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["left"] == []


def test_what_does_not_fit_is_left_and_what_does_is_run(gpu):
    stages = [python(gpu, "long", "pass", seconds=50), python(gpu, "short", "pass", seconds=20)]
    assert gpu.run(stages, gpu.State(gpu.WORK), 40) == gpu.RESUMABLE
    assert statuses(gpu.State(gpu.WORK)) == {"short": "done"}
    assert json.loads((gpu.WORK / "summary.json").read_text())["left"] == ["long"]


@pytest.mark.parametrize("statement", [SLEEP, STUBBORN])
def test_a_stage_past_its_time_is_ended_and_reported(gpu, statement):
    stages = [python(gpu, "slow", statement, seconds=3), python(gpu, "next", "pass")]
    start = time.monotonic()
    assert gpu.run(stages, gpu.State(gpu.WORK), 100) == gpu.RESUMABLE
    assert time.monotonic() - start < 30
    state = gpu.State(gpu.WORK)
    assert statuses(state) == {"slow": "out of time", "next": "done"}
    assert not state.finished("slow")


def test_a_preempted_run_is_resumed_later_and_a_missed_number_is_not(gpu):
    """75 is the status of a run that saved itself; 1 after the seed was recorded is a number outside its tolerance."""
    stage = python(gpu, "family/name#0", "raise SystemExit(1)", seed=0)
    assert gpu.status(stage, 75, False, False) == "out of time"
    assert gpu.status(stage, 1, False, False) == "failed"
    record = gpu.WORK / "family" / "name" / "seed_0.json"
    record.parent.mkdir(parents=True)
    record.write_text('{"config": {}}')
    assert gpu.status(stage, 1, False, False) == "failed"
    record.write_text('{"config": {}, "machine": {}}')
    assert gpu.status(stage, 1, False, False) == "missed"


# What comes back


def test_results_and_a_checkpoint_come_back_in_few_files(gpu, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "PART", 3000)  # a tar has at least 10,240 bytes
    run = gpu.WORK / "family" / "name" / "seed_0"
    for step in (9, 10):
        (run / "checkpoints" / str(step)).mkdir(parents=True)
        (run / "checkpoints" / str(step) / "data").write_bytes(bytes([step]) * 1500)
    (run / "metrics.jsonl").write_text('{"step": 10}\n')
    (gpu.WORK / "site").mkdir()
    (gpu.WORK / "site" / "package.json").write_text("{}")
    stage = python(gpu, "family/name#0", SLEEP, seconds=2, seed=0, portable=True)
    gpu.run([stage], gpu.State(gpu.WORK), 100)
    out = tmp_path / "out"
    names = sorted(path.name for path in out.iterdir())
    assert len(names) <= 8 and all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in names)
    assert {"summary.json", "results.tar.gz", "checkpoint.tar.0"} <= set(names)
    assert all((out / name).stat().st_size <= 3000 for name in names if name.startswith("checkpoint"))

    monkeypatch.setattr(gpu, "WORK", tmp_path / "here")
    monkeypatch.setattr(gpu, "ROOT", tmp_path)
    gpu.collect(out)
    run = gpu.WORK / "family" / "name" / "seed_0"
    assert (run / "metrics.jsonl").read_text() == '{"step": 10}\n'
    assert (run / "checkpoints" / "10" / "data").read_bytes() == bytes([10]) * 1500
    assert not (run / "checkpoints" / "9").exists() and not (gpu.WORK / "site").exists()
    assert statuses(gpu.State(gpu.WORK)) == {"family/name#0": "out of time"}


def test_collecting_from_elsewhere_is_refused(gpu, tmp_path):
    with pytest.raises(gpu.Mistake, match="holds no results.tar.gz"):
        gpu.collect(tmp_path)


# The kit


def test_a_lock_is_read_for_the_other_machine(gpu):
    """Its Python and system, not this one's; the marker goes, since pip would judge it by this Python."""
    lock = (
        "One.Name==1.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
        "two==2.0 ; python_full_version < '3.12' \\\n    --hash=sha256:cc\n"
        "two==2.1 ; python_full_version >= '3.12' \\\n    --hash=sha256:dd\n"
        "three==3.0 ; sys_platform == 'win32' \\\n    --hash=sha256:ee\n"
    )
    assert gpu.locked(lock) == {
        "one-name": ("1.0", "One.Name==1.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb"),
        "two": ("2.1", "two==2.1 \\\n    --hash=sha256:dd"),
    }


def test_the_kit_carries_what_the_machine_lacks(gpu):
    names = gpu.wanted().keys()
    assert {"tensorflow-datasets", "grain", "array-record", "ml-collections", "tensorboardx", "pytest"} <= names
    assert not {"jax", "jaxlib", "numpy", "scipy", "torch", "tensorstore"} & names


def test_a_package_is_installed_where_it_is_missing_or_too_old(gpu, monkeypatch):
    def version(name):
        if name == "absent":
            raise gpu.importlib.metadata.PackageNotFoundError
        return {"old": "1.9.3", "new": "1.10.0rc1", "unlisted": "0.1"}[name]

    monkeypatch.setattr(gpu.importlib.metadata, "version", version)
    lowest = {"absent": "1", "old": "1.10", "new": "1.10"}
    assert [n for n in ("absent", "old", "new", "unlisted") if gpu.needed(n, lowest)] == ["absent", "old"]
    assert gpu.minimums()["orbax-checkpoint"] == "0.12.8" and gpu.minimums()["etils"] == "1.15"


def test_every_import_of_the_project_is_checked(gpu):
    assert {"jax", "grain", "tensorflow_datasets", "tensorboardX", "torch", "PIL"} <= gpu.third_parties()
    assert not {"json", "tools", "research"} & gpu.third_parties()


def test_a_copy_without_git_is_of_the_kits_commit_while_its_code_is_the_same(gpu, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "ROOT", tmp_path)
    code = tmp_path / "research" / "x.py"
    code.parent.mkdir()
    code.write_text("1")
    gpu.KIT.mkdir()
    (gpu.KIT / "commit.json").write_text(json.dumps({"commit": "abc", "sources": gpu.sources()}))
    assert gpu.environment(False)["ALMANAC_COMMIT"] == "abc"
    code.write_text("2")
    assert "ALMANAC_COMMIT" not in gpu.environment(False)
