"""What a run of LoRA has trained, without its base, as one file of safetensors: for many tasks beside one set of weights.

The names are paths of parameters: `h_0/attention/qkv/kernel/lora_a` and `.../lora_b` of an adapted matrix, and whole parameters
that trained in full. The metadata has the scale of the adapters, and the checksum of every parameter that did not train.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict

from research.core import low_rank
from research.interop import weights
from research.run import checksum
from research.util.errors import UserError
from research.util.files import write_bytes, write_errors

_FROZEN = f"{low_rank.FROZEN}/params/"


def write(source: str, file: Path) -> str:
    """Writes the adapters of a run, `RUN[@WHICH]` (the best that is kept, else the last). -> a line that says what was written.

    Raises UserError for a run without adapters, a damaged checkpoint, and a file that exists.
    """
    if file.exists():
        raise UserError(f"{file} exists; give another name to --out")
    words, arrays = weights.saved(source)
    if f"{low_rank.FROZEN}/scale" not in arrays:
        raise UserError(f"{source} has no adapters: it was trained without lora.rank")
    trained = {name.removeprefix("params/"): x for name, x in arrays.items() if name.startswith("params/")}
    base = {name.removeprefix(_FROZEN): checksum.of_host(x) for name, x in arrays.items() if name.startswith(_FROZEN)}
    metadata = {"scale": repr(float(arrays[f"{low_rank.FROZEN}/scale"])), "base": json.dumps(base)}
    with write_errors(file.parent):
        write_bytes(file, safetensors.numpy.save(trained, metadata))
    return f"{file}: {len(trained)} arrays, {sum(x.size for x in trained.values()):,} parameters of {source} ({words})"


def apply(params: Mapping[str, Any], file: str | Path) -> dict[str, Any]:
    """The parameters that adapters were trained on, and their file -> the merged parameters.

    Raises UserError for a file that is none, and for parameters of which one differs in a bit from those of the training.
    """
    try:
        with safetensors.safe_open(file, framework="numpy") as tensors:
            trained = {name: tensors.get_tensor(name) for name in tensors.keys()}
            metadata = tensors.metadata() or {}
        scale, base = np.float32(metadata["scale"]), dict(json.loads(metadata["base"]))
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as e:
        raise UserError(f"{file} is no file of adapters, or damaged: {str(e).splitlines()[0]}") from None
    flat = flatten_dict(params, sep="/")
    for name, saved in base.items():
        if name not in flat or not checksum.same(np.asarray(flat[name]), saved):
            raise UserError(
                f"{file} holds adapters to other weights: {name} {'differs' if name in flat else 'is not here'}"
            )
    frozen = {"params": unflatten_dict({name: flat[name] for name in base}, sep="/"), "scale": jnp.asarray(scale)}
    return low_rank.merge(frozen, unflatten_dict(trained, sep="/"))
