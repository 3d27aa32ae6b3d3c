"""Imports flow one way, and what no file may do: read from the sources, lazy imports too."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(f for top in ("research", "experiments", "tools") for f in (ROOT / top).rglob("*.py"))

# A room may import itself and every room of a lower rank.
RANKS = {
    **dict.fromkeys(["research.util"], 0),
    **dict.fromkeys(["research.core"], 1),
    **dict.fromkeys(["research.cluster"], 2),
    **dict.fromkeys(["research.run", "research.data", "research.nn"], 3),
    **dict.fromkeys(["research.generation"], 4),
    **dict.fromkeys(["research.models", "research.losses", "research.evals"], 5),
    **dict.fromkeys(["research.interop", "research.interpret"], 6),
    # Training may begin with weights from elsewhere; a bundle has programs in other forms.
    **dict.fromkeys(["research.algorithms", "research.serving"], 7),
    **dict.fromkeys(["research"], 8),  # its __init__: what is at hand in a notebook
    **dict.fromkeys(["experiments.options"], 8),  # what families and tools share
    **dict.fromkeys(["experiments.launch"], 9),
    **dict.fromkeys(["experiments"], 10),
    **dict.fromkeys(["tools"], 11),
}
OTHER_FRAMEWORKS = {"keras", "tensorflow", "torch", "torchvision", "transformers"}
_TORCH = "peak torch torch_images torch_language torch_layers torch_models torch_step torch_transformers generate_torch"
TWINS = {f"tools/dev/bench/bench_{name}.py" for name in _TORCH.split()}  # the benchmark's PyTorch
CONVERTERS = {"research/interop/litert.py"}  # TensorFlow writes LiteRT, in an environment of its own
UNSAFE = {"_pickle", "cloudpickle", "dill", "joblib", "pickle", "shelve"}


def imported(tree: ast.AST, module: str) -> Iterator[str]:
    """Full names of what a file of the package `module` imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level or None] if node.level else []
            parent = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{parent}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__"):
            if node.args and isinstance(node.args[0], ast.Constant):
                yield str(node.args[0].value)


def _called(node: ast.Call) -> str:
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


def room(module: str) -> str | None:
    """`research.nn.attention` -> `research.nn`; a family's module -> `experiments.<family>`; None: not ours."""
    words = module.split(".")
    if words[0] == "tools":
        return "tools"
    return ".".join(words[:2]) if words[0] in ("research", "experiments") else None


def rank(room: str) -> int:
    return RANKS[room if room in RANKS else room.split(".")[0]]


def import_problems(source: str, module: str) -> list[str]:
    mine = room(module)
    found = []
    for name in imported(ast.parse(source), module):
        other = room(name)
        if other not in (None, mine, "research", "experiments") and rank(other) >= rank(mine):
            found.append(f"{module} imports {name}")
    return found


def unsafe_problems(source: str, place: str) -> list[str]:
    tree = ast.parse(source)
    tops = {name.split(".")[0] for name in imported(tree, "")}
    banned = UNSAFE if place in TWINS | CONVERTERS else UNSAFE | OTHER_FRAMEWORKS
    found = [f"{place} imports {top}" for top in sorted(tops & banned)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec"):
            found.append(f"{place}, line {node.lineno}: {node.func.id}")
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False":
            found.append(f"{place}, line {node.value.lineno}: allow_pickle")
    return found


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def test_imports_flow_one_way():
    assert len(FILES) > 50
    assert [p for f in FILES for p in import_problems(f.read_text("utf-8"), module_name(f))] == []


def test_every_room_has_a_rank():
    rooms = {room(module_name(f)) for f in FILES if len(f.relative_to(ROOT).parts) > 2}
    assert {r for r in rooms if not r.startswith("experiments")} - RANKS.keys() == set()


def test_no_other_framework_no_pickle_no_exec():
    places = {f.relative_to(ROOT).as_posix(): f for f in FILES}
    assert [p for place, f in places.items() for p in unsafe_problems(f.read_text("utf-8"), place)] == []
    assert unsafe_problems((ROOT / "almanac").read_text("utf-8"), "almanac") == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("research.run.run", "def f():\n    from tools.verbs import report\n"),
        ("research.run.run", "from experiments.gan.train import build\n"),
        ("research.util.errors", "from research.core import config\n"),
        ("experiments.launch", "from experiments.gan import train\n"),
        ("research.core.mesh", "import research.nn.attention\n"),
        ("research.losses.gan", "from research.models.generative import gan\n"),
        ("research.nn.attention", "from ..models import gpt\n"),
        ("experiments.gan.train", "from experiments.language_model.train import build\n"),
        ("experiments.gan.train", "import importlib\nimportlib.import_module('tools.cli')\n"),
    ],
)
def test_an_import_upwards_is_found(module, source):
    assert len(import_problems(source, module)) == 1


def test_an_import_downwards_is_fine():
    source = "from research.core import mesh\nfrom research.nn.attention import Attention\nimport jax\n"
    assert import_problems(source, "research.models.text.gpt") == []


@pytest.mark.parametrize("line", ["import torch.nn", "import pickle", "eval('1')", "np.load(f, allow_pickle=True)"])
def test_what_is_unsafe_is_found(line):
    assert len(unsafe_problems(f"def f():\n    {line}\n", "research/data/x.py")) == 1


def test_every_package_folder_has_an_init():
    folders = {f.parent for f in FILES}
    folders |= {up for f in folders for up in f.parents if ROOT in up.parents}
    assert [str(f.relative_to(ROOT)) for f in sorted(folders) if not (f / "__init__.py").exists()] == []


def test_training_needs_neither_tensorflow_nor_torch():
    code = "import experiments.language_model.train, sys; print(*sys.modules)"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "jax" in done.stdout.split()
    assert OTHER_FRAMEWORKS & set(done.stdout.split()) == set()


def test_no_verb_needs_what_is_for_work_on_almanac():
    others = [path for path in FILES if path.relative_to(ROOT).parts[:2] != ("tools", "dev")]
    names = {path: [*imported(ast.parse(path.read_text("utf-8")), module_name(path))] for path in others}
    assert [str(path) for path, found in names.items() if any(name.startswith("tools.dev") for name in found)] == []


def test_the_page_has_these_ranks():
    text = (ROOT / "docs" / "house.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", text, re.M)
    said = {name: int(number) for number, names in rows for name in re.findall(r"`([^`]+)`", names)}
    room = lambda name: name.removesuffix(".py").replace("/FAMILY", "").replace("/", ".")  # noqa: E731
    planned = {name for name in RANKS if not list(ROOT.glob(name.replace(".", "/") + "*"))}
    assert {room(name): rank for name, rank in said.items()} == {
        name: rank for name, rank in RANKS.items() if name not in planned | {"research"}
    }


def test_no_six_lines_stand_in_two_families():
    """Outside imports and the loop, `train`, what two families share belongs to research/."""
    places: dict[tuple[str, ...], set[str]] = {}
    for file in sorted((ROOT / "experiments").glob("*/train.py")):
        source = file.read_text()
        left_out = {
            line
            for node in ast.parse(source).body
            if isinstance(node, ast.Import | ast.ImportFrom) or getattr(node, "name", "") == "train"
            for line in range(node.lineno, node.end_lineno + 1)
        }
        lines = [s.strip() for i, s in enumerate(source.splitlines(), 1) if s.strip() and i not in left_out]
        for i in range(len(lines) - 5):
            places.setdefault(tuple(lines[i : i + 6]), set()).add(file.parent.name)
    assert [(sorted(families), lines) for lines, families in places.items() if len(families) > 1] == []
