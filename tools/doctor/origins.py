"""Where a NaN or an Inf comes from: a function run operation by operation, every result looked at.

An operation that makes one from finite inputs is its origin, and what is computed from that inherits the origin until a
result is finite again (the -inf of an attention mask ends in its softmax). So a bad result leads to what spoilt it, and to
nothing else. JAX's own checks do less: checkify sees no Inf, and both it and jax_debug_nans report a NaN that a `where`
throws away, and jax_debug_infs the mask.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import source_info_util
from jax.extend.core import Literal

from tools.root import ROOT

CALLS = (  # operations that are a function of their own: looked into
    *("jit", "pjit", "closed_call", "core_call", "checkpoint", "remat", "remat2"),
    *("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"),
)


class Origin(NamedTuple):
    """The operation that made a NaN, or an Inf. `number` counts operations; `cause` is the Inf that it made a NaN of."""

    number: int
    made: str
    operation: str
    scope: str
    source: str
    inputs: tuple[str, ...]
    output: str
    cause: "Origin | None" = None

    def lines(self) -> list[str]:
        """For a person: what, where, of what; then what that came from."""
        way = " (backward)" if "transpose(" in self.scope else ""
        scope = f", in {self.scope}{way}" if self.scope else ""
        own = [f"{self.made} made by {self.operation}{scope}", f"at {self.source}"]
        own += [f"of {text}" for text in self.inputs] + [f"gave {self.output}"]
        return own + (["from the", *self.cause.lines()] if self.cause else [])


class Place(NamedTuple):
    """Where an equation stands: names of modules and transformations, and a line of the source."""

    scope: str = ""
    source: str = ""


NOWHERE = Place()


class Seen(NamedTuple):
    """An array, and where it was spoilt."""

    value: Any
    origin: Origin | None = None


def find(fn: Callable, **args: Any) -> Origin | None:
    """The first origin of what is not finite in `fn(*args)`; None where all is finite. Runs what the result needs.

    Keywords name the inputs for the report.
    """
    closed = jax.make_jaxpr(fn)(*args.values())
    inputs = [
        _given(name, path, x) for name, arg in args.items() for path, x in jax.tree_util.tree_leaves_with_path(arg)
    ]
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)  # each operation is compiled, and most run once
    try:
        results = _walk(closed.jaxpr, closed.consts, inputs, _Looker().look)
    finally:
        jax.config.update("jax_disable_most_optimizations", before)
    found = [seen.origin for seen in results if seen.origin]
    return min(found, key=lambda origin: origin.number, default=None)


def named(fn: Callable, ending: str, *args: Any) -> tuple[Any, list[tuple[str, jax.Array]]]:
    """`fn(*args)`, and the values that it calls `...ending` by `jax.ad_checkpoint.checkpoint_name`, in their order."""
    closed, shapes = jax.make_jaxpr(fn, return_shape=True)(*args)
    names: list[str] = []

    def run(leaves: Sequence) -> tuple[list, list]:
        caught: list = []

        def one(eqn: Any, inputs: list[Seen], place: Place) -> list[Seen]:
            out = _bind(eqn, inputs)
            if eqn.primitive.name == "name" and eqn.params["name"].endswith(ending):
                names.append(eqn.params["name"])
                caught.append(out[0])
            return [Seen(x) for x in out]

        return [seen.value for seen in _walk(closed.jaxpr, closed.consts, list(map(Seen, leaves)), one)], caught

    results, caught = jax.jit(run)(jax.tree.leaves(args))
    return jax.tree.unflatten(jax.tree.structure(shapes), results), list(zip(names, caught, strict=True))


def _walk(jaxpr: Any, consts: Sequence, inputs: list[Seen], one: Callable, place: Place = NOWHERE) -> list[Seen]:
    """The results of a jaxpr whose equations `one(equation, inputs, place)` computes: those that they need."""
    known = dict(zip(jaxpr.constvars, map(Seen, consts), strict=True)) | dict(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> Seen:
        return Seen(atom.val) if isinstance(atom, Literal) else known[atom]

    wanted, eqns = set(_variables(jaxpr.outvars)), []
    for eqn in reversed(jaxpr.eqns):
        if wanted.intersection(eqn.outvars):
            frees = set(_variables(eqn.invars)) - wanted  # nothing reads them again
            wanted |= frees
            eqns.append((eqn, frees | (set(eqn.outvars) - wanted)))
    for eqn, frees in reversed(eqns):
        known |= dict(zip(eqn.outvars, one(eqn, [read(v) for v in eqn.invars], _inside(place, eqn)), strict=True))
        for v in frees:
            del known[v]
    return [read(v) for v in jaxpr.outvars]


def _inside(place: Place, eqn: Any) -> Place:
    """An equation of a function that was traced long ago may have no line of its own, or a library's: then its caller's."""
    scope = "/".join(filter(None, (place.scope, str(eqn.source_info.name_stack))))
    lines = source_info_util.summarize(eqn.source_info, num_frames=64).splitlines()  # innermost last
    ours = [line for line in lines if line.startswith(f"{ROOT}/") and "site-packages" not in line]
    return Place(scope, ours[-1].removeprefix(f"{ROOT}/") if ours else place.source or "".join(lines[-1:]))


def _variables(atoms: Sequence) -> list:
    return [v for v in atoms if not isinstance(v, Literal)]


def _bind(eqn: Any, inputs: list[Seen]) -> list:
    params = eqn.primitive.get_bind_params(eqn.params)
    with eqn.ctx.manager:
        out = eqn.primitive.bind(*(seen.value for seen in inputs), **params)
    return list(out) if eqn.primitive.multiple_results else [out]


class _Looker:
    """Runs equations and looks at what they give. Loops are run turn by turn."""

    def __init__(self):
        self._number = 0

    def look(self, eqn: Any, inputs: list[Seen], place: Place) -> list[Seen]:
        name, params = eqn.primitive.name, eqn.params
        if name in CALLS:
            return self._call(params.get("jaxpr", params.get("call_jaxpr")), inputs, place)
        if name == "scan":
            return self._scan(params, inputs, place)
        if name == "while":
            return self._while(params, inputs, place)
        if name == "cond":
            return self._call(params["branches"][int(inputs[0].value)], inputs[1:], place)
        self._number += 1
        return [self._judge(eqn, inputs, value, place) for value in _bind(eqn, inputs)]

    def _call(self, jaxpr: Any, inputs: list[Seen], place: Place) -> list[Seen]:
        consts = getattr(jaxpr, "consts", ())
        return _walk(getattr(jaxpr, "jaxpr", jaxpr), consts, inputs, self.look, place)

    def _scan(self, params: dict, inputs: list[Seen], place: Place) -> list[Seen]:
        ahead, n = params["num_consts"], params["num_carry"]
        consts, carry, rows = inputs[:ahead], inputs[ahead : ahead + n], inputs[ahead + n :]
        turns = range(params["length"])
        outs: dict[int, list[Seen]] = {}
        for i in reversed(turns) if params["reverse"] else turns:
            row = [seen._replace(value=seen.value[i]) for seen in rows]
            out = self._call(params["jaxpr"], [*consts, *carry, *row], place._replace(scope=f"{place.scope}[{i}]"))
            carry, outs[i] = out[:n], out[n:]
        columns = zip(*(outs[i] for i in turns), strict=True)
        return [*carry, *(Seen(jnp.stack([s.value for s in c]), _first(c)) for c in columns)]

    def _while(self, params: dict, inputs: list[Seen], place: Place) -> list[Seen]:
        a, b = params["cond_nconsts"], params["body_nconsts"]
        of_cond, of_body, carry = inputs[:a], inputs[a : a + b], inputs[a + b :]
        while bool(self._call(params["cond_jaxpr"], [*of_cond, *carry], place)[0].value):
            carry = self._call(params["body_jaxpr"], [*of_body, *carry], place)
        return carry

    def _judge(self, eqn: Any, inputs: list[Seen], value: Any, place: Place) -> Seen:
        made = _fault(value)
        if not made:
            return Seen(value)
        cause = _first(inputs)
        if cause and (cause.made == "NaN" or made == "Inf"):
            return Seen(value, cause)
        origin = Origin(
            self._number, made, eqn.primitive.name, place.scope, place.source, tuple(_words(s.value) for s in inputs),
            _words(value), cause,
        )  # fmt: skip
        return Seen(value, origin)


def _given(name: str, path: tuple, value: Any) -> Seen:
    if not (made := _fault(value)):
        return Seen(value)
    source = "/".join(filter(None, (name, jax.tree_util.keystr(path, simple=True, separator="/"))))
    return Seen(value, Origin(0, made, "nothing: it is an input", "", source, (), _words(value)))


def _first(inputs: Sequence[Seen]) -> Origin | None:
    """The earliest origin, of a NaN before that of an Inf."""
    found = [seen.origin for seen in inputs if seen.origin]
    return min(found, key=lambda origin: (origin.made == "Inf", origin.number), default=None)


def _fault(value: Any) -> str:
    if not jnp.issubdtype(jnp.result_type(value), jnp.inexact):
        return ""
    numbers = np.asarray(value)
    if np.isfinite(numbers).all():
        return ""
    return "NaN" if np.isnan(numbers).any() else "Inf"


def _words(value: Any) -> str:
    """`float32[8, 16], -1.5 to 2`, and how many are not finite and where the first is."""
    if not hasattr(value, "shape"):
        return str(value)
    text = f"{value.dtype}{list(value.shape)}"
    if not jnp.issubdtype(value.dtype, jnp.number):
        return text
    numbers = np.asarray(value)
    good = np.isfinite(numbers)
    if good.any():
        text += f", {numbers[good].min():.4g} to {numbers[good].max():.4g}"
    if not good.all():
        place = [int(i) for i in np.argwhere(~good)[0]]
        text += f", {int((~good).sum()):,} of {numbers.size:,} not finite, the first at {place}"
    return text
