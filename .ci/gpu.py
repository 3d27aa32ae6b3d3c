"""What needs a GPU, in stages: the tests on a GPU, the benchmark, and the experiments whose published number is meant for one.

    .ci/gpu --prepare [STAGE ...]        here: wheels and data into .gpu/, for a machine without a network
    .ci/gpu --dry-run [STAGE ...]        here: every stage with tiny sizes, on the CPU
    .ci/gpu [STAGE ...] [--seconds N]    there: the stages that are not finished and fit into N seconds, in order
    .ci/gpu --collect FOLDER             here: unpacks what came back in $OUT, so that nothing is run twice

Copy the checkout with .gpu/ (and runs/gpu/, where it holds the results of an earlier machine) to the GPU machine. It needs Python
with JAX for its GPU, Flax, Optax, Orbax and, for the benchmark, PyTorch; what else is missing comes from .gpu/. Without
.gpu/ the interpreter's own packages are used as they are.

A stage is ended at the time it names; training saves a checkpoint then, and resumes when it is run again. A stage that fails does
not stop those after it. runs/gpu/ holds the state, logs and run directories. Where $OUT is set, it receives after every stage
summary.json, results.tar.gz and, in parts, the checkpoint of an unfinished run that is small enough.

Exit status: 0 everything is finished, 1 a stage failed, 75 the rest is left for another call, 2 a user error.
"""

import argparse
import ast
import contextlib
import dataclasses
import hashlib
import importlib
import importlib.metadata
import importlib.util
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import tomllib
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KIT, WORK, CACHE = ROOT / ".gpu", ROOT / "runs" / "gpu", ROOT / "runs" / "gpu_wheels"
MB = 2**20
LIMIT = 63 * MB  # of the checkout and the kit together
PART, PARTS = 15 * MB, 4  # of files in $OUT: at most so large, and so many of checkpoints
GRACE = 15  # seconds before a stage's end at which it is asked to stop
RESUMABLE = 75
DRY_SECONDS = 900  # a stage's time in a dry run, on any machine
TARGET = {
    "python_version": "3.12",
    "python_full_version": "3.12.3",
    "sys_platform": "linux",
    "platform_machine": "x86_64",
}
TAGS = [f"manylinux_2_{n}_x86_64" for n in (28, 27, 24, 17)] + ["manylinux2014_x86_64", "manylinux1_x86_64"]
NO_WHEEL = {"promise", "rouge-score"}  # published as source alone; pure Python, built here
TESTS = {"beartype", "pytest", "pytest-xdist", "pluggy", "iniconfig", "execnet"}  # from the developers' lock
# Compiled or large, and there with JAX, PyTorch and the usual tools. What is not named here is carried, and installed where
# it is missing or older than pyproject.toml asks.
THERE = set(
    "aiofiles anyio certifi charset-normalizer click cloudpickle colorama contourpy cycler einops filelock flatbuffers "
    "fonttools h11 hf-xet httpcore2 httpx2 huggingface-hub idna jax jaxlib joblib kiwisolver lxml markdown-it-py markupsafe "
    "matplotlib mdurl ml-dtypes msgpack narwhals numpy opt-einsum pillow prometheus-client protobuf psutil pyarrow pygments "
    "pyyaml regex requests rich safetensors scikit-learn scipy setuptools sympy tensorstore threadpoolctl "
    "tokenizers truststore tzdata urllib3 uvloop".split()
)
# Of the extra [serve], which the lock has: no stage needs them.
SERVE = set(
    "annotated-doc annotated-types fastapi opentelemetry-api pydantic pydantic-core starlette typing-inspection uvicorn".split()
)
UNUSED = {"h5py", "jieba", "prometheus_client", "transformers", *SERVE}  # of extras: no stage needs them
TRAIN_TINY = ("num_steps=3", "log_every=3", "eval_every=3", "save_every=3", "optim.warmup=1")


@dataclasses.dataclass(frozen=True)
class Stage:
    """`command`: words after `python -m`. `tiny`: its replacement in a dry run. `data`: folders of the mirror that it reads."""

    name: str
    seconds: int
    command: tuple[str, ...]
    tiny: tuple[str, ...]
    data: tuple[str, ...] = ()
    seed: int | None = None  # of an experiment
    portable: bool = False  # its checkpoint is small enough to leave the machine
    env: tuple[tuple[str, str], ...] = ()


def _cli(*words: str) -> tuple[str, ...]:
    return ("tools.cli", *words)


def _benchmark(name: str, seconds: int, *tiny: str) -> Stage:
    # `--crowded`: what a stage before left running on some of many cores is no reason to lose the GPU's minutes.
    out = ("--crowded", "--out", f"runs/gpu/benchmark/{name}.json")
    small = ("--against", "eager", "--rounds", "1", "--steps", "1", "--crowded", *(f"--config.{key}" for key in tiny))
    return Stage(name, seconds, _cli("benchmark", name, "--against", "compile", *out), _cli("benchmark", name, *small))


def _profile(launch: int) -> Stage:
    """A trace of twenty steps of the small GPT, whose step took 20 to 36 ms on an H100."""
    words = _cli("train", "language_model/shakespeare_char", "--profile=40:60", f"--config.steps_per_launch={launch}")
    changes = ("num_steps=100", "eval_every=100", "save_every=100", "log_every=20")
    small = (*TRAIN_TINY, "steps_per_launch=1", "model.num_layers=1", "model.width=12", "data.eval_batch_size=512")
    return Stage(
        f"profile-{launch}", 90, data=("tiny_shakespeare",),
        command=(*words, "--workdir", f"runs/gpu/profile/{launch}", *(f"--config.{change}" for change in changes)),
        tiny=(
            *_cli("train", "language_model/shakespeare_char", "--profile=1:2", "--workdir", f"runs/gpu_dry/profile/{launch}"),
            *(f"--config.{change}" for change in small),
        ),
    )  # fmt: skip


def _experiment(
    name: str, seconds: int, seeds: int, data: tuple[str, ...], *tiny: str, launch: int = 1, portable: bool = False
) -> list[Stage]:
    """One stage a seed: `FAMILY/NAME#SEED`, `launch` steps a launch."""
    changes = (*TRAIN_TINY, *tiny, *(["steps_per_launch=2"] if launch > 1 else []))
    small = _cli("train", name, "--workdir", f"runs/gpu_dry/{name}", *(f"--config.{change}" for change in changes))
    several = ("--steps-per-launch", str(launch)) if launch > 1 else ()
    return [
        Stage(
            f"{name}#{seed}", seconds, seed=seed, data=data, tiny=small, portable=portable,
            command=_cli("reproduce", name, "--seeds", str(seed + 1), "--workdir", f"runs/gpu/{name}", *several),
        )
        for seed in range(seeds)
    ]  # fmt: skip


_GPU_TESTS = sorted(
    p.relative_to(ROOT).as_posix() for p in (ROOT / "tests").rglob("test_*.py") if "mark.gpu" in p.read_text("utf-8")
)
_TESTS = Stage(
    "tests", 120, _cli("test", "--gpu", "-n", "3", *_GPU_TESTS), ("pytest", "-q", "-k", "gan", *_GPU_TESTS),
    env=(("XLA_FLAGS", "--xla_gpu_deterministic_ops=true"), ("XLA_PYTHON_CLIENT_PREALLOCATE", "false")),
)  # fmt: skip
_RESNET, _GRID = ("model.depth=8", "data.batch_size=8"), ("data.batch_size=8",)  # 67 x 7 steps are an epoch
STAGES = [  # after the benchmark, the experiments in order of their age
    _TESTS,
    _benchmark(
        "gpt2-124m", 400,
        "model.num_layers=1", "model.width=32", "model.num_heads=2", "data.length=16", "data.batch_size=2",
    ),
    _benchmark("resnet50", 400, "data.batch_size=2"),
    _profile(1),
    _profile(10),
    *_experiment(
        "language_model/shakespeare_char", 200, 3, ("tiny_shakespeare",),
        "model.num_layers=1", "model.width=12", "data.length=16", "data.batch_size=4", "data.eval_batch_size=512",
        "sample.length=5", launch=10,
    ),
    *_experiment(
        "translation/multi30k_tiny", 180, 3, ("multi30k_bpe", "multi30k"),
        "model.encoder_layers=1", "model.decoder_layers=1", "model.width=16", "model.mlp_width=16",
        "data.tokens=800", "scores=()", "translate.beam=1", "translate.ratio=0.1", "translate.more=1",
    ),
    *_experiment(
        "question_answering/squad_bidaf", 480, 3, ("squad",),
        "model.width=4", "model.filters=4", "data.length=64", "data.stride=64", "data.batch_size=4",
        "data.eval_batch_size=256", launch=10, portable=True,
    ),
    *_experiment("image_classification/resnet20_fashion", 480, 5, ("fashion_mnist",), *_RESNET, launch=67, portable=True),
    *_experiment("image_classification/resnet20_fashion_erasing", 480, 5, ("fashion_mnist",), *_RESNET, launch=67, portable=True),
    *_experiment(
        "language_model/wikitext2_lstm_variational", 480, 3, ("wikitext2",),
        "model.width=8", "data.length=8", "data.batch_size=4", "data.eval_batch_size=64", "sample.length=5", launch=20,
    ),
    *_experiment("gan/grid_gan", 240, 5, (), *_GRID, launch=100, portable=True),
    *_experiment("gan/grid_pacgan2", 240, 5, (), *_GRID, launch=100, portable=True),
]  # fmt: skip


class Mistake(Exception):
    """A user error: one line, and exit status 2."""


def chosen(names: Sequence[str], stages: Sequence[Stage] = STAGES) -> list[Stage]:
    """The stages of these names, in their own order; `FAMILY/NAME` stands for all its seeds, and no name for everything."""
    groups = list(dict.fromkeys(stage.name.partition("#")[0] for stage in stages))
    for name in names:
        if name not in {*groups, *(stage.name for stage in stages)}:
            raise Mistake(f"there is no stage {name!r}; the stages are {', '.join(groups)}")
    return [s for s in stages if not names or s.name in names or s.name.partition("#")[0] in names]


# ---- Here: the kit


def normal(name: str) -> str:
    """A distribution's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(text: str) -> dict[str, tuple[str, str]]:
    """A lock -> {name: (version, its lines)} of what TARGET installs; without markers, which pip would judge by this Python."""
    from packaging.markers import Marker

    found = {}
    for block in re.split(r"\n(?=\S)", text):
        if match := re.match(r"([A-Za-z0-9._-]+)==([^ ;\\]+)(?: *; *([^\\\n]+?))? *(?:\\|$)", block):
            if match[3] is None or Marker(match[3]).evaluate(TARGET):
                found[normal(match[1])] = (match[2], f"{match[1]}=={match[2]} \\{block[match.end() :]}".rstrip())
    return found


def wanted() -> dict[str, tuple[str, str]]:
    """What the kit carries: {name: (version, its lines in the lock)}."""
    ours = locked((ROOT / "requirements.lock").read_text())
    dev = locked((ROOT / "requirements-dev.lock").read_text())
    return {k: v for k, v in ours.items() if k not in THERE | SERVE} | {k: dev[k] for k in sorted(TESTS)}


def prepare(stages: Sequence[Stage]) -> None:
    """Fills .gpu/ with wheels and with the data of as many stages, in order, as the limit admits."""
    wheels = CACHE
    for folder in (KIT, wheels):
        folder.mkdir(parents=True, exist_ok=True)
    packages = wanted()
    _drop_others(wheels, packages)
    have = {wheel_name(path) for path in wheels.glob("*.whl")}
    missing = {k: lines for k, (_, lines) in packages.items() if k not in have}
    platform = ["--python-version", "3.12", "--implementation", "cp", *(w for tag in TAGS for w in ("--platform", tag))]
    _pip(
        {k: v for k, v in missing.items() if k not in NO_WHEEL},
        "download",
        "--only-binary=:all:",
        *platform,
        "-d",
        wheels,
    )
    _pip({k: v for k, v in missing.items() if k in NO_WHEEL}, "wheel", "-w", wheels)
    if lacking := packages.keys() - {wheel_name(path) for path in wheels.glob("*.whl")}:
        raise Mistake(f"pip left out {', '.join(sorted(lacking))}")
    _squeeze(wheels, KIT / "wheels.tar.xz")
    (KIT / "commit.json").write_text(json.dumps({"commit": commit(), "sources": sources()}) + "\n")
    size = (KIT / "wheels.tar.xz").stat().st_size
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    checkout = sum((ROOT / name).stat().st_size for name in tracked.split("\0") if name and (ROOT / name).exists())
    print(f"{len(packages)} wheels {size / MB:.1f} MiB, checkout {checkout / MB:.1f} MiB")
    _copy_data(stages, LIMIT - size - checkout)
    total = _size(KIT) + checkout
    print(f"{KIT.name}/ is {_size(KIT) / MB:.1f} MiB, with the checkout {total / MB:.1f} of {LIMIT / MB:.0f} MiB")


def commit() -> str:
    """HEAD, with + where tracked files were changed since: what a run's config.json names."""
    git = ("git", "-C", str(ROOT))
    head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True).stdout
    changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True).stdout
    return head.strip() + ("+" if changed else "")


def sources() -> str:
    """A digest of the project's code: a copy without .git is of the kit's commit where it is the same."""
    digest = hashlib.sha256()
    for path in sorted(p for top in ("research", "experiments", "tools") for p in (ROOT / top).rglob("*.py")):
        digest.update(f"{path.relative_to(ROOT).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _drop_others(wheels: Path, packages: dict[str, tuple[str, str]]) -> None:
    """Removes wheels of another version, or that the lock no longer names."""
    for path in wheels.glob("*.whl"):
        name, version = wheel_name(path), path.name.split("-")[1]
        if name not in packages or packages[name][0] != version:
            path.unlink()


def _squeeze(wheels: Path, archive: Path) -> None:
    """All wheels as one file: unpacked ones compress better together, to three quarters."""
    with tarfile.open(archive, "w:xz") as tar:
        for path in sorted(wheels.glob("*.whl")):
            loose = io.BytesIO()
            with zipfile.ZipFile(path) as old, zipfile.ZipFile(loose, "w") as new:
                for member in old.infolist():
                    new.writestr(member.filename, old.read(member))
            entry = tarfile.TarInfo(path.name)
            entry.size = loose.tell()
            loose.seek(0)
            tar.addfile(entry, loose)


def _pip(lines: dict[str, str], verb: str, *options: object) -> None:
    """Runs pip on lines of the lock, with their hashes."""
    if not lines:
        return
    listing = KIT / "requirements.txt"
    listing.write_text("\n".join(lines.values()) + "\n")
    words = [sys.executable, "-m", "pip", verb, "--quiet", "--no-deps", "--require-hashes", "-r", listing, *options]
    if subprocess.call([str(word) for word in words]):
        raise Mistake(f"pip could not fetch {', '.join(lines)}; it says why above")
    listing.unlink()


def _copy_data(stages: Sequence[Stage], room: int) -> None:
    mirror = os.environ.get("ALMANAC_MIRROR")
    folders = list(dict.fromkeys(name for stage in stages for name in stage.data))
    if folders and not mirror:
        raise Mistake(f"set ALMANAC_MIRROR to the folder that holds {', '.join(folders)}")
    shutil.rmtree(KIT / "data", ignore_errors=True)
    (KIT / "data").mkdir()
    for name in folders:
        source = Path(mirror) / name
        if not source.is_dir():
            raise Mistake(f"{source} does not exist: ALMANAC_MIRROR is to hold {', '.join(folders)}")
        if (size := _size(source)) > room:
            users = ", ".join(dict.fromkeys(s.name.partition("#")[0] for s in stages if name in s.data))
            print(f"left out: {name}, {size / MB:.1f} MiB, over the limit; prepare {users} alone to carry it")
            continue
        shutil.copytree(source, KIT / "data" / name, copy_function=shutil.copyfile)
        room -= size
        print(f"data {name} {size / MB:.1f} MiB")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def wheel_name(path: Path) -> str:
    return normal(path.name.split("-")[0])


# ---- There: packages


def install(site: Path) -> None:
    """Installs into `site` those of the kit's wheels that this interpreter lacks, or has too old a version of."""
    wheels = site.with_name("wheels")
    with tarfile.open(KIT / "wheels.tar.xz") as tar:
        tar.extractall(wheels, filter="data")
    new = [path for path in sorted(wheels.glob("*.whl")) if needed(wheel_name(path), minimums())]
    stamp = site / ".wheels"
    listing = "\n".join(path.name for path in new)
    if new and not (stamp.exists() and stamp.read_text() == listing):
        shutil.rmtree(site, ignore_errors=True)
        options = ["--quiet", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--target", str(site)]
        if subprocess.call([sys.executable, "-m", "pip", "install", *options, *map(str, new)]):
            raise Mistake("pip could not install the kit's wheels; it says why above")
        stamp.write_text(listing)
    shutil.rmtree(wheels)
    print(f"{len(new)} packages from the kit: {' '.join(wheel_name(path) for path in new)}", flush=True)


def minimums() -> dict[str, str]:
    """{name: the lowest version that pyproject.toml admits}, of what we and the tests need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"] + project["optional-dependencies"]["dev"]
    matches = (re.match(r"([A-Za-z0-9._-]+)(?:\[.*?\])?>=([0-9.]+)", line) for line in lines)
    return {normal(m[1]): m[2] for m in matches if m}


def needed(name: str, lowest: dict[str, str]) -> bool:
    """Whether this interpreter lacks a distribution, or has one below its lowest version."""
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return True
    return name in lowest and _numbers(version) < _numbers(lowest[name])


def _numbers(version: str) -> list[int]:
    return [int(n) for n in re.match(r"[0-9.]*", version)[0].split(".") if n]


def third_parties() -> set[str]:
    """Every package that a line of the project imports, lazily too."""
    found = set()
    for path in (p for top in ("research", "experiments", "tools") for p in (ROOT / top).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found |= {name.name.split(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module.split(".")[0])
    return found - sys.stdlib_module_names - {"research", "experiments", "tools"} - UNUSED


def check(accelerator: bool) -> int:
    """Imports everything and prints versions: exit status 1 where something is missing. PyTorch alone is only looked for."""
    faults = []
    for name in sorted((third_parties() | {"pytest", "xdist"}) - {"torch"}):
        try:
            importlib.import_module(name)
        except Exception as error:  # a broken package raises anything
            faults.append(f"{name}: {type(error).__name__}: {error}")
    if importlib.util.find_spec("torch") is None:
        print("no PyTorch: the benchmark stages will fail")
    names = (
        "jax",
        "jaxlib",
        "flax",
        "optax",
        "orbax-checkpoint",
        "grain",
        "tensorflow-datasets",
        "numpy",
        "torch",
        "pytest",
    )
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            print(f"{name} {importlib.metadata.version(name)}", end="  ")
    print()
    with contextlib.suppress(ImportError):
        import jax

        print(jax.devices(), flush=True)
        if accelerator and jax.default_backend() != "gpu":
            faults.append(f"JAX runs on {jax.default_backend()}, not on a GPU")
    print("\n".join(f"MISSING {fault}" for fault in faults))
    return 1 if faults else 0


# ---- There: stages


def environment(dry: bool) -> dict[str, str]:
    """The stages' environment: the kit's packages and data first, no network, caches in the work folder."""
    work = WORK.with_name("gpu_dry") if dry else WORK
    env = {
        "ALMANAC_OFFLINE": "1",
        "HF_HUB_OFFLINE": "1",
        "JAX_COMPILATION_CACHE_DIR": str(work / "jit"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *([str(work / "site")] if (work / "site").exists() else [])]),
        "PYTHONUNBUFFERED": "1",
    }
    if (KIT / "commit.json").exists() and (kit := json.loads((KIT / "commit.json").read_text()))[
        "sources"
    ] == sources():
        env["ALMANAC_COMMIT"] = kit["commit"]
    if (KIT / "data").is_dir():
        env |= {"ALMANAC_MIRROR": str(KIT / "data"), "ALMANAC_DATA": str(work / "data")}
    return os.environ | env | ({"JAX_PLATFORMS": "cpu"} if dry else {})


def execute(words: Sequence[str], env: dict[str, str], seconds: float, log: Path) -> tuple[int, bool]:
    """Runs a command into a log -> exit status, and whether it was asked to stop because its time was over."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        process = subprocess.Popen(
            words, cwd=ROOT, env=env, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True
        )
        grace = min(GRACE, seconds / 2)
        late = False
        try:
            try:
                process.wait(seconds - grace)
            except subprocess.TimeoutExpired:
                late = True
                os.killpg(process.pid, signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(grace)
        finally:
            with contextlib.suppress(ProcessLookupError):  # what it started, stopped workers too
                os.killpg(process.pid, signal.SIGKILL)
        return process.wait(), late


def seed_is_finished(stage: Stage) -> bool:
    """Whether `almanac reproduce` has recorded the stage's seed as trained."""
    record = WORK / stage.name.partition("#")[0] / f"seed_{stage.seed}.json"
    return record.exists() and "machine" in json.loads(record.read_text())


def status(stage: Stage, code: int, late: bool, dry: bool) -> str:
    """done; missed: finished, but the published number is not met; out of time; failed."""
    if code == 0:
        return "done"
    if stage.seed is not None and not dry and seed_is_finished(stage):
        return "missed"
    return "out of time" if late or code == RESUMABLE else "failed"


class State:
    """What has been run, in FOLDER/summary.json: {"stages": {name: {status, seconds, exit, log}}, "left": [...]}."""

    def __init__(self, folder: Path):
        self.file = folder / "summary.json"
        self.stages = json.loads(self.file.read_text())["stages"] if self.file.exists() else {}

    def finished(self, name: str) -> bool:
        return self.stages.get(name, {}).get("status") in ("done", "missed")

    def write(self, left: Sequence[str] = ()) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps({"stages": self.stages, "left": list(left)}, indent=1) + "\n")
        new.replace(self.file)


def run(stages: Sequence[Stage], state: State, seconds: float, dry: bool = False) -> int:
    """Runs what is not finished and fits -> exit status."""
    start, env = time.monotonic(), environment(dry)
    unfinished = [stage for stage in stages if not state.finished(stage.name)]
    left = [stage.name for stage in unfinished]
    for stage in unfinished:
        rest = seconds - (time.monotonic() - start)
        if stage.seconds > rest:
            print(f"-- {stage.name}: {stage.seconds} s do not fit into the {rest:.0f} s that are left", flush=True)
            continue
        print(f"\n== {stage.name}, at most {stage.seconds} s", flush=True)
        began, log = time.monotonic(), state.file.parent / "logs" / f"{stage.name.replace('/', '.')}.log"
        words = [sys.executable, "-P", "-m", *(stage.tiny if dry else stage.command)]
        own = dict(stage.env) | (
            {"JAX_PLATFORMS": ""} if dry and stage.name == "tests" else {}
        )  # "cpu" would skip them
        code, late = execute(words, env | own, DRY_SECONDS if dry else stage.seconds, log)
        outcome, took = status(stage, code, late, dry), round(time.monotonic() - began, 1)
        state.stages[stage.name] = {"status": outcome, "seconds": took, "exit": code, "log": _tail(log, 40)}
        if state.finished(stage.name):
            left.remove(stage.name)
        state.write(left)
        publish(stages, state)
        print(f"{_tail(log, 12)}\n-- {stage.name}: {outcome} in {took:.0f} s", flush=True)
    print("\n" + "\n".join(f"{state.stages.get(s.name, {}).get('status', 'not run'):<12} {s.name}" for s in stages))
    if any(state.stages.get(name, {}).get("status") == "failed" for name in left):
        return 1
    return RESUMABLE if left else 0


def _tail(log: Path, lines: int) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


# ---- What comes back


def publish(stages: Sequence[Stage], state: State) -> None:
    """Into $OUT: the summary, everything small of the work folder, and the checkpoint of a portable run that is not finished."""
    if not (out := os.environ.get("OUT")):
        return
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(state.file, folder / "summary.json")
    work = state.file.parent
    _pack(folder / "results.tar.gz", _small(work), work)
    for old in folder.glob("checkpoint.tar.*"):
        old.unlink()
    begun = [s for s in stages if s.portable and state.stages.get(s.name, {}).get("status") == "out of time"]
    if begun:  # the last one to be stopped: there is room for one
        name, _, seed = begun[-1].name.partition("#")
        _split(_newest_checkpoint(work / name / f"seed_{seed}"), work, folder)


def _small(work: Path) -> Iterator[Path]:
    """Logs, records and traces; no package, data set, compiled program, checkpoint or picture."""
    for path in sorted(work.rglob("*")):
        inner = path.relative_to(work).parts
        if (
            path.is_file()
            and inner[0] not in ("site", "data", "jit")
            and not {"checkpoints", "best", "samples"} & set(inner)
        ):
            if path.suffix in (".json", ".jsonl", ".log", ".txt", ".gz") and path.stat().st_size <= PART:
                yield path


def _newest_checkpoint(run: Path) -> list[Path]:
    steps = [path for path in (run / "checkpoints").glob("*") if path.name.isdigit()]
    return sorted(p for p in max(steps, key=lambda p: int(p.name)).rglob("*") if p.is_file()) if steps else []


def _split(files: Sequence[Path], work: Path, folder: Path) -> None:
    if not files or sum(path.stat().st_size for path in files) > PART * PARTS:
        return
    whole = work / "checkpoint.tar"
    _pack(whole, files, work)
    with whole.open("rb") as f:
        for number, part in enumerate(iter(lambda: f.read(PART), b"")):
            (folder / f"checkpoint.tar.{number}").write_bytes(part)
    whole.unlink()


def _pack(archive: Path, files: Sequence[Path] | Iterator[Path], root: Path) -> None:
    new = archive.with_name(f".{archive.name}")
    with tarfile.open(new, "w:gz" if archive.suffix == ".gz" else "w") as tar:
        for path in files:
            tar.add(path, path.relative_to(root).as_posix())
    new.replace(archive)


def collect(folder: Path) -> None:
    """Unpacks what a machine left in its $OUT into runs/gpu/ of this checkout, and says how the tables get it."""
    if not (folder / "results.tar.gz").is_file():
        raise Mistake(f"{folder} holds no results.tar.gz")
    WORK.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / "results.tar.gz") as tar:
        tar.extractall(WORK, filter="data")
    if parts := sorted(folder.glob("checkpoint.tar.*"), key=lambda path: int(path.suffix[1:])):
        whole = WORK / "checkpoint.tar"
        whole.write_bytes(b"".join(part.read_bytes() for part in parts))
        with tarfile.open(whole) as tar:
            tar.extractall(WORK, filter="data")
        whole.unlink()
    state = State(WORK)
    for name, about in state.stages.items():
        print(f"{about['status']:<12} {name}  {about['seconds']} s")
    seeds = {
        stage.name.partition("#")[0]: stage.seed + 1
        for stage in STAGES
        if stage.seed is not None and state.finished(stage.name)
    }
    for name, count in seeds.items():
        print(f"into the ledger: ./almanac reproduce {name} --seeds {count} --workdir {WORK.relative_to(ROOT)}/{name}")


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog=".ci/gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("stages", nargs="*", metavar="STAGE", help="default: all; --list shows them")
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), metavar="N", help="for everything; default: no limit"
    )
    verbs = parser.add_mutually_exclusive_group()
    for verb, text in (
        ("prepare", "make the kit"),
        ("dry-run", "tiny sizes, on the CPU"),
        ("list", "stages and times"),
    ):
        verbs.add_argument(f"--{verb}", action="store_true", help=text)
    verbs.add_argument("--check", action="store_true", help="import everything, print versions")
    verbs.add_argument("--collect", type=Path, metavar="FOLDER", help="what came back in $OUT")
    args = parser.parse_args(argv)
    try:
        return _go(args, chosen(args.stages))
    except Mistake as error:
        print(f".ci/gpu: {error}", file=sys.stderr)
        return 2


def _go(args: argparse.Namespace, stages: list[Stage]) -> int:
    if args.list:
        print("\n".join(f"{stage.seconds:>4} s  {stage.name}" for stage in stages))
        return 0
    if args.prepare:
        prepare(stages)
        return 0
    if args.collect:
        collect(args.collect)
        return 0
    if args.check:
        return check(os.environ.get("JAX_PLATFORMS") != "cpu")
    start, dry = time.monotonic(), args.dry_run
    work = WORK.with_name("gpu_dry") if dry else WORK
    if dry:
        shutil.rmtree(work, ignore_errors=True)
        stages = [stage for stage in stages if not stage.seed]  # a seed is like another
    print(sys.version.split()[0], sys.executable, flush=True)
    if shutil.which("nvidia-smi"):
        subprocess.call(["nvidia-smi"])
    if (KIT / "wheels.tar.xz").exists():
        install(work / "site")
    if subprocess.call([sys.executable, "-P", __file__, "--check"], env=environment(dry), cwd=ROOT):
        return 1
    return run(stages, State(work), args.seconds - (time.monotonic() - start), dry)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
