"""Signatures of evals, losses, models and nn state shapes and dtypes, and the tests refuse arrays of others (conftest.py)."""

import ast
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from research.evals import ranking
from research.losses import classification
from research.models.text.text_cnn import TextCNN
from research.nn import positions

ROOT = Path(__file__).resolve().parents[1]
FILES = [f for room in ("evals", "losses", "models", "nn") for f in sorted((ROOT / "research" / room).rglob("*.py"))]
ARRAYS = {"Array", "jax.Array", "jnp.ndarray", "np.ndarray"}
DTYPES = {name for name in vars(jaxtyping) if isinstance(getattr(jaxtyping, name), type(jaxtyping.Float))}


def functions(tree: ast.AST) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Public functions, and the public methods and `__call__` of public classes, by name."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from ((f"{node.name}.{name}", function) for name, function in functions(node))
        if isinstance(node, ast.FunctionDef) and (node.name == "__call__" or not node.name.startswith("_")):
            yield node.name, node


def bare(annotation: ast.AST) -> bool:
    """Whether it names an array without a dtype and a shape."""
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) in DTYPES:
        return False
    return ast.unparse(annotation) in ARRAYS or any(map(bare, ast.iter_child_nodes(annotation)))


def problems(source: str) -> list[str]:
    found = []
    for name, function in functions(ast.parse(source)):
        a = function.args
        parameters = [p for p in (*a.posonlyargs, *a.args, a.vararg, *a.kwonlyargs, a.kwarg) if p and p.arg != "self"]
        found += [f"{name}: {p.arg} has no type" for p in parameters if p.annotation is None]
        types = {p.arg: p.annotation for p in parameters if p.annotation} | {"the result": function.returns}
        found += [f"{name}: {what} has no shape" for what, kind in types.items() if kind and bare(kind)]
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.relative_to(ROOT / "research").as_posix())
def test_signatures_state_types_and_shapes(file):
    assert problems(file.read_text("utf-8")) == []


def test_what_the_signatures_may_not_be():
    source = """
def untyped(x): ...
def shapeless(x: jax.Array | None, drop: Callable[[Array], Array]) -> dict[str, np.ndarray]: ...
def good(x: Float[Array, "B T"] | Mask | None, y: Int[np.ndarray, " n"], **options: Any) -> tuple[Bool[Array, "..."], int]: ...
def _private(x): ...
class Layer:
    def __call__(self, x: jax.Array): ...
"""
    assert problems(source) == [
        "untyped: x has no type",
        "shapeless: x has no shape",
        "shapeless: drop has no shape",
        "shapeless: the result has no shape",
        "Layer.__call__: x has no shape",
    ]


def _classify(tokens, length):
    return TextCNN(vocab_size=5, num_classes=2, width=2, maps=2).init_with_output(jax.random.key(0), tokens, length)


TOKENS = jnp.ones((2, 6), jnp.int32)
CALLS = {  # of each room: a function, arguments that it takes, and arguments of a wrong shape and of a wrong dtype
    "evals": (ranking.ranks, (np.eye(2), np.arange(2)), (np.eye(2), np.arange(3)), (np.eye(2), np.arange(2.0))),
    "losses": (
        classification.cross_entropy,
        (jnp.eye(3), jnp.arange(3)),
        (jnp.eye(3), jnp.arange(4)),
        (jnp.eye(3, dtype=jnp.int32), jnp.arange(3)),
    ),
    "models": (
        _classify,
        (TOKENS, jnp.array([3, 6])),
        (TOKENS, jnp.array([3, 6, 6])),
        (TOKENS, jnp.array([3.0, 6.0])),
    ),
    "nn": (positions.sinusoids, (jnp.arange(3), 4), (jnp.ones((1, 3), jnp.int32), 4), (jnp.ones(3, bool), 4)),
}


@pytest.mark.parametrize("room", CALLS)
def test_arrays_of_another_shape_or_dtype_are_refused(room):
    function, good, shape, dtype = CALLS[room]
    function(*good)
    for wrong in (shape, dtype):
        with pytest.raises(jaxtyping.TypeCheckError):
            function(*wrong)


def test_a_result_of_another_shape_is_refused(monkeypatch):
    monkeypatch.setattr(positions.jnp, "concatenate", lambda arrays, axis: arrays[0])
    with pytest.raises(jaxtyping.TypeCheckError, match="return value of research.nn.positions.sinusoids"):
        positions.sinusoids(jnp.arange(3), 4)
