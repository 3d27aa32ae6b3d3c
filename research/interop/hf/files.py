"""A Hugging Face folder's files: config.json, and safetensors in one file or in several with an index. Never a pickle."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from research.data import user_files
from research.util.errors import UserError
from research.util.files import write_errors, write_json
from research.util.run_files import LARGEST

SINGLE, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
FLOATS = {"F16": np.float16, "F32": np.float32, "F64": np.float64, "BF16": None}  # NumPy has no bfloat16


class Tensors:
    """The tensors of safetensors files by name, each read as f32 when it is asked for; UserError if a file is damaged."""

    def __init__(self, files: Iterable[Path]):
        # Files made from TensorFlow's name a norm's parameters as it did.
        self._files = {_modern(name): (file, name) for file in files for name in self._names(file)}

    def _names(self, file: Path) -> list[str]:
        with self._open(file) as tensors:
            return list(tensors.keys())

    def _open(self, file: Path, framework: str = "numpy") -> Any:
        try:
            return safetensors.safe_open(file, framework=framework)
        except (safetensors.SafetensorError, OSError) as e:
            raise UserError(f"{file} is damaged or no safetensors file: {str(e).splitlines()[0]}") from None

    @property
    def names(self) -> list[str]:
        return list(self._files)

    def shape(self, name: str) -> tuple[int, ...]:
        file, stored = self._files[name]
        with self._open(file) as tensors:
            return tuple(tensors.get_slice(stored).get_shape())

    def array(self, name: str) -> np.ndarray:
        """f32; UserError for what is not floating point, quantised weights for instance."""
        file, stored = self._files[name]
        with self._open(file) as tensors:
            if (dtype := tensors.get_slice(stored).get_dtype()) not in FLOATS:
                raise UserError(f"{file}: {name} is {dtype}; only {', '.join(FLOATS)} are read")
            if dtype != "BF16":
                return tensors.get_tensor(stored).astype(np.float32)
        with self._open(file, "flax") as tensors:
            return np.asarray(tensors.get_tensor(stored)).astype(np.float32)


class Folder(Tensors):
    """The `config` and the tensors of a folder; UserError for a file that is missing, damaged or a pickle."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_dir():
            raise UserError(f"{self.path} is no folder; give the folder of config.json and {SINGLE}")
        super().__init__(self._shards())
        self.config = self._json(CONFIG)
        if not isinstance(self.config.get("model_type"), str):
            raise UserError(f"{self.path / CONFIG} names no model_type: it tells nothing of the architecture")

    def _shards(self) -> list[Path]:
        if (self.path / SINGLE).is_file():
            return [self.path / SINGLE]
        if (self.path / INDEX).is_file():
            names = self._json(INDEX).get("weight_map")
            if not isinstance(names, dict) or not all(isinstance(n, str) and Path(n).name == n for n in names.values()):
                raise UserError(f"{self.path / INDEX} has no weight_map of files beside it")
            shards = [self.path / name for name in sorted(set(names.values()))]
            if missing := [file.name for file in shards if not file.is_file()]:
                raise UserError(f"{self.path} lacks {missing[0]}, which {INDEX} names")
            return shards
        if pickles := sorted(file.name for kind in PICKLES for file in self.path.glob(kind)):
            raise UserError(f"{self.path} has its weights in {a_pickle(pickles[0])}")
        raise UserError(f"{self.path} has neither {SINGLE} nor {INDEX}")

    def _json(self, name: str) -> dict[str, Any]:
        path = self.path / name
        if not path.exists():
            raise UserError(f"{self.path} has no {name}")
        if path.is_file() and (size := path.stat().st_size) > LARGEST:
            raise UserError(f"{path}: {size:,} bytes, where such a file has at most {LARGEST:,}")
        found = user_files.json_value(path)
        if not isinstance(found, dict):
            raise UserError(f"{self.path / name} is not a JSON object")
        return found


def _modern(name: str) -> str:
    if name.endswith(("LayerNorm.gamma", "LayerNorm.beta")):
        return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
    return name


def a_pickle(name: str) -> str:
    """Why a pickle of that name is not read, and how it is converted."""
    return (
        f'{name}, a pickle, which may run any code when it is read; where you trust it, convert it: python -c "import torch, '
        "safetensors.torch as s; s.save_file(torch.load('IN', weights_only=True), 'OUT.safetensors')\""
    )


def is_folder(path: Path) -> bool:
    """Whether a folder seems to be Hugging Face's, and no run directory."""
    if not path.is_dir() or any((path / name).is_dir() for name in ("checkpoints", "best")):
        return False
    kinds = ("*.safetensors", "*.safetensors.index.json", *PICKLES)
    if any(next(path.glob(kind), None) for kind in kinds):
        return True
    try:
        return "model_type" in user_files.json_value(path / CONFIG)
    except (UserError, TypeError):
        return False


def write(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> None:
    """config.json and model.safetensors into a folder that is there."""
    with write_errors(folder):
        arrays = {name: np.ascontiguousarray(x) for name, x in tensors.items()}
        safetensors.numpy.save_file(arrays, folder / SINGLE, metadata={"format": "pt"})
        write_json(folder / CONFIG, dict(config))
