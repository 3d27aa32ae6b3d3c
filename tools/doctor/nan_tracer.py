"""Traces a NaN or an Inf to the operation that made it: evaluates a function operation by operation and checks every result.

An operation that makes a non-finite value from finite inputs is its source, and what is computed from that inherits the
source until a result is finite again (the -inf of an attention mask ends in its softmax). So only operations that the
result depends on are reported. JAX's own checks do less: checkify does not detect an Inf, both checkify and
jax_debug_nans report a NaN that a `where` discards, and jax_debug_infs reports the mask.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import source_info_util
from jax.extend.core import Literal

from tools.root import ROOT

CALLS = (  # operations with a jaxpr of their own, which is traced
    *("jit", "pjit", "closed_call", "core_call", "checkpoint", "remat", "remat2"),
    *("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"),
)


class NonFinite(NamedTuple):
    """The operation (or input) that made a NaN or an Inf.

    number       its position in the order of evaluation; 0: an input
    kind         "NaN" or "Inf"
    operation    the JAX primitive; "" for an input
    scope        names of modules and transformations
    source       its line, file:line:column; for an input, the path of the leaf
    inputs       a description of each input array
    output       a description of the result
    cause        of a NaN that was made from an Inf: the source of that Inf
    """

    number: int
    kind: str
    operation: str
    scope: str
    source: str
    inputs: tuple[str, ...]
    output: str
    cause: "NonFinite | None" = None

    def lines(self) -> list[str]:
        """The report: operation, source line, inputs and output; then the same for the cause."""
        backward = " (backward)" if "transpose(" in self.scope else ""
        scope = f", in {self.scope}{backward}" if self.scope else ""
        maker = f"made by {self.operation}{scope}" if self.operation else "in an input"
        report = [f"{self.kind} {maker}", f"at {self.source}"]
        report += [f"input {text}" for text in self.inputs] + [f"output {self.output}"]
        return report + (["caused by", *self.cause.lines()] if self.cause else [])


class Location(NamedTuple):
    """The location of an equation: names of modules and transformations, and a line of the source."""

    scope: str = ""
    source: str = ""


TOP = Location()


class Traced(NamedTuple):
    """An array, and the source of its NaN or Inf; None if it is finite."""

    value: Any
    non_finite: NonFinite | None = None


def trace(fn: Callable, **args: Any) -> NonFinite | None:
    """The first operation in `fn(*args)` that made a non-finite value which reaches the result; None if the result is finite.

    Evaluates only what the result depends on. The keywords are passed in order and name the inputs in the report.
    """
    closed = jax.make_jaxpr(fn)(*args.values())
    inputs = [
        _input(name, path, x) for name, arg in args.items() for path, x in jax.tree_util.tree_leaves_with_path(arg)
    ]
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)  # each operation is compiled, and most run once
    try:
        results = _evaluate(closed.jaxpr, closed.consts, inputs, _Tracer().evaluate)
    finally:
        jax.config.update("jax_disable_most_optimizations", before)
    sources = [result.non_finite for result in results if result.non_finite]
    return min(sources, key=lambda source: source.number, default=None)


def named_values(fn: Callable, suffix: str, *args: Any) -> tuple[Any, list[tuple[str, jax.Array]]]:
    """-> `fn(*args)`, and [(name, value), ...] of the values in it whose name ends in `suffix`, in order of evaluation.

    `jax.ad_checkpoint.checkpoint_name` gives a value its name.
    """
    closed, shapes = jax.make_jaxpr(fn, return_shape=True)(*args)
    names: list[str] = []

    def run(leaves: Sequence) -> tuple[list, list]:
        values: list = []

        def evaluate(eqn: Any, inputs: list[Traced], location: Location) -> list[Traced]:
            out = _bind(eqn, inputs)
            if eqn.primitive.name == "name" and eqn.params["name"].endswith(suffix):
                names.append(eqn.params["name"])
                values.append(out[0])
            return [Traced(x) for x in out]

        results = _evaluate(closed.jaxpr, closed.consts, list(map(Traced, leaves)), evaluate)
        return [result.value for result in results], values

    results, values = jax.jit(run)(jax.tree.leaves(args))
    return jax.tree.unflatten(jax.tree.structure(shapes), results), list(zip(names, values, strict=True))


def _evaluate(
    jaxpr: Any, consts: Sequence, inputs: list[Traced], evaluate: Callable, location: Location = TOP
) -> list[Traced]:
    """The results of a jaxpr. `evaluate(equation, inputs, location)` computes each equation that a result depends on."""
    env = dict(zip(jaxpr.constvars, map(Traced, consts), strict=True)) | dict(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> Traced:
        return Traced(atom.val) if isinstance(atom, Literal) else env[atom]

    live, eqns = set(_variables(jaxpr.outvars)), []
    for eqn in reversed(jaxpr.eqns):
        if live.intersection(eqn.outvars):
            last_uses = set(_variables(eqn.invars)) - live  # no later equation reads them
            live |= last_uses
            eqns.append((eqn, last_uses | (set(eqn.outvars) - live)))
    for eqn, dead in reversed(eqns):
        outputs = evaluate(eqn, [read(v) for v in eqn.invars], _locate(location, eqn))
        env |= dict(zip(eqn.outvars, outputs, strict=True))
        for v in dead:
            del env[v]
    return [read(v) for v in jaxpr.outvars]


def _locate(caller: Location, eqn: Any) -> Location:
    """The location of an equation. A function traced earlier may have no line, or a library's: then its caller's."""
    scope = "/".join(filter(None, (caller.scope, str(eqn.source_info.name_stack))))
    lines = source_info_util.summarize(eqn.source_info, num_frames=64).splitlines()  # innermost last
    ours = [line for line in lines if line.startswith(f"{ROOT}/") and "site-packages" not in line]
    return Location(scope, ours[-1].removeprefix(f"{ROOT}/") if ours else caller.source or "".join(lines[-1:]))


def _variables(atoms: Sequence) -> list:
    return [v for v in atoms if not isinstance(v, Literal)]


def _bind(eqn: Any, inputs: list[Traced]) -> list:
    params = eqn.primitive.get_bind_params(eqn.params)
    with eqn.ctx.manager:
        out = eqn.primitive.bind(*(x.value for x in inputs), **params)
    return list(out) if eqn.primitive.multiple_results else [out]


class _Tracer:
    """Evaluates equations and checks their results. Loops run iteration by iteration."""

    def __init__(self):
        self._number = 0

    def evaluate(self, eqn: Any, inputs: list[Traced], location: Location) -> list[Traced]:
        name, params = eqn.primitive.name, eqn.params
        if name in CALLS:
            return self._call(params.get("jaxpr", params.get("call_jaxpr")), inputs, location)
        if name == "scan":
            return self._scan(params, inputs, location)
        if name == "while":
            return self._while(params, inputs, location)
        if name == "cond":
            return self._call(params["branches"][int(inputs[0].value)], inputs[1:], location)
        self._number += 1
        return [self._check(eqn, inputs, value, location) for value in _bind(eqn, inputs)]

    def _call(self, jaxpr: Any, inputs: list[Traced], location: Location) -> list[Traced]:
        consts = getattr(jaxpr, "consts", ())
        return _evaluate(getattr(jaxpr, "jaxpr", jaxpr), consts, inputs, self.evaluate, location)

    def _scan(self, params: dict, inputs: list[Traced], location: Location) -> list[Traced]:
        num_consts, n = params["num_consts"], params["num_carry"]
        consts, carry, xs = inputs[:num_consts], inputs[num_consts : num_consts + n], inputs[num_consts + n :]
        iterations = range(params["length"])
        outs: dict[int, list[Traced]] = {}
        for i in reversed(iterations) if params["reverse"] else iterations:
            row = [x._replace(value=x.value[i]) for x in xs]
            inside = location._replace(scope=f"{location.scope}[{i}]")
            out = self._call(params["jaxpr"], [*consts, *carry, *row], inside)
            carry, outs[i] = out[:n], out[n:]
        columns = zip(*(outs[i] for i in iterations), strict=True)
        return [*carry, *(Traced(jnp.stack([x.value for x in c]), _earliest(c)) for c in columns)]

    def _while(self, params: dict, inputs: list[Traced], location: Location) -> list[Traced]:
        a, b = params["cond_nconsts"], params["body_nconsts"]
        cond_consts, body_consts, carry = inputs[:a], inputs[a : a + b], inputs[a + b :]
        while bool(self._call(params["cond_jaxpr"], [*cond_consts, *carry], location)[0].value):
            carry = self._call(params["body_jaxpr"], [*body_consts, *carry], location)
        return carry

    def _check(self, eqn: Any, inputs: list[Traced], value: Any, location: Location) -> Traced:
        kind = _kind(value)
        if not kind:
            return Traced(value)
        cause = _earliest(inputs)
        if cause and (cause.kind == "NaN" or kind == "Inf"):
            return Traced(value, cause)
        source = NonFinite(
            self._number, kind, eqn.primitive.name, location.scope, location.source,
            tuple(_describe(x.value) for x in inputs), _describe(value), cause,
        )  # fmt: skip
        return Traced(value, source)


def _input(name: str, path: tuple, value: Any) -> Traced:
    if not (kind := _kind(value)):
        return Traced(value)
    leaf = "/".join(filter(None, (name, jax.tree_util.keystr(path, simple=True, separator="/"))))
    return Traced(value, NonFinite(0, kind, "", "", leaf, (), _describe(value)))


def _earliest(inputs: Sequence[Traced]) -> NonFinite | None:
    """The earliest source of a NaN; without one, of an Inf; None if all inputs are finite."""
    sources = [x.non_finite for x in inputs if x.non_finite]
    return min(sources, key=lambda source: (source.kind == "Inf", source.number), default=None)


def _kind(value: Any) -> str:
    """NaN, Inf or, if all numbers are finite, "" (as text).

    >>> _kind(np.array([1.0, np.inf])), _kind(np.array([1.0]))
    ('Inf', '')
    """
    if not jnp.issubdtype(jnp.result_type(value), jnp.inexact):
        return ""
    numbers = np.asarray(value)
    if np.isfinite(numbers).all():
        return ""
    return "NaN" if np.isnan(numbers).any() else "Inf"


def _describe(value: Any) -> str:
    """Dtype, shape and range of an array, the number of non-finite elements and the index of the first.

    >>> _describe(np.array([1.0, -2.0, np.nan], np.float32))
    'float32[3], -2 to 1, 1 of 3 not finite, the first at [2]'
    """
    if not hasattr(value, "shape"):
        return str(value)
    text = f"{value.dtype}{list(value.shape)}"
    if not jnp.issubdtype(value.dtype, jnp.number):
        return text
    numbers = np.asarray(value)
    finite = np.isfinite(numbers)
    if finite.any():
        text += f", {numbers[finite].min():.4g} to {numbers[finite].max():.4g}"
    if not finite.all():
        index = [int(i) for i in np.argwhere(~finite)[0]]
        text += f", {int((~finite).sum()):,} of {numbers.size:,} not finite, the first at {index}"
    return text
