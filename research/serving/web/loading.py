"""A bundle becomes a version of a model that is served, or is refused; what serves is not touched."""

import logging
from pathlib import Path

import jax
import jax.numpy as jnp

from research.serving.bundle import Bundle, open_bundle
from research.serving.servable import from_bundle
from research.serving.web.served import Limits, Served
from research.util.errors import UserError

log = logging.getLogger("almanac.serve")


def load(root: Path, folder: str, current: Served, number: int, limits: Limits) -> Served:
    """Opens a bundle below `root`, checks it, compiles its programs and answers once with each -> version `number`, started.

    A bundle without a chat template takes that of `current`. Raises UserError, which has no path from outside `root` in it, if
    there is no such folder, a byte of the bundle has changed, a parameter is not a number, it takes or returns something else
    than `current`, or its programs do not run.
    """
    path = below(root, folder)
    try:
        bundle = open_bundle(path)
    except UserError as error:
        raise UserError(str(error).replace(f"{path}/", "").replace(str(path), folder)) from None
    _check_parameters(bundle)
    servable = from_bundle(bundle, current.servable.name)
    if servable.language is not None and current.servable.language is not None and not servable.language.template:
        servable = servable._replace(language=servable.language._replace(template=current.servable.language.template))
    try:
        version = Served(servable, limits, number)
        _check_interface(version, current)
        version.start()
    except UserError:
        raise
    except Exception as error:  # of the program, which is the bundle's
        log.exception("a bundle cannot be run")
        raise UserError(f"its programs do not run here: {type(error).__name__}; the log has more") from None
    return version


def below(root: Path, folder: str) -> Path:
    """A folder below `root`, links resolved. Raises UserError if there is none, or it lies elsewhere."""
    root = root.resolve()
    try:
        path = (root / folder).resolve()
        if path != root and path.is_relative_to(root) and path.is_dir():
            return path
    except (OSError, ValueError):
        pass
    raise UserError(f"there is no folder {folder!r} among the server's bundles")


def _check_parameters(bundle: Bundle) -> None:
    for name, x in bundle.parameters.items():
        if jnp.issubdtype(x.dtype, jnp.floating) and not jax.device_get(jnp.isfinite(x).all()):
            raise UserError(f"the parameter {name} has a number that is not finite")


def _check_interface(new: Served, current: Served) -> None:
    """Raises UserError unless whoever may ask `current` may ask `new` the same."""
    for what, of in (
        ("inputs", lambda model: model.batcher.programs.specs),
        ("outputs", lambda model: sorted(model.batcher.programs.outputs)),
        ("generation of text", lambda model: model.engine is not None),
    ):
        if of(new) != of(current):
            raise UserError(f"{what}: {of(new)}, and of the version in service {of(current)}; it is another model")
