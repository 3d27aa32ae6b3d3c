"""TFDS data sets stored as array_record, which give random access without TensorFlow.

Our own (`BUILDERS`) are prepared on first use from verified upstream files; any other must have been
prepared with TFDS.
"""

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import absl.logging
import numpy as np

from research.data.download import data_folder, fetch
from research.data.thread_pool import OrderedMap
from research.util.errors import UserError

if TYPE_CHECKING:  # imported when a data set is opened: most sources are not TFDS's
    import tensorflow_datasets as tfds

BUILDERS = {
    "mnist": "Mnist",
    "fashion_mnist": "FashionMnist",
    "squad": "Squad",
    "tiny_shakespeare": "TinyShakespeare",
    "wikitext2": "Wikitext2",
    "sst_trees": "SstTrees",
    "imdb": "Imdb",
    "trec": "Trec",
    "tweeteval_emotion": "TweetevalEmotion",
    "chinese_reviews": "ChineseReviews",
    "ag_news": "AgNews",
    "ag_news_part": "AgNewsPart",
    "multi30k": "Multi30k",
    "multi30k_bpe": "Multi30kBpe",
    "gsm8k": "Gsm8k",
    "omniglot_small": "OmniglotSmall",
    "bccd_cells": "BccdCells",
}
_CHUNK = 1024  # examples decoded at once: bounds memory; TFDS is five times as fast in bulk


class TfdsSource:
    """A source over `records`, a sequence of examples with random access, one by one or in bulk.

    `decode(example) -> {name: array or number}`, of the same shapes for all examples. It must be pure: the threads of
    `thread_pool` call it if it is slow.
    """

    def __init__(self, records: Sequence, decode: Callable[[dict], dict]):
        self.records, self._decode = records, OrderedMap(decode)

    def __len__(self) -> int:
        return len(self.records)

    def gather(self, indices: np.ndarray, epoch: int = 0) -> dict[str, np.ndarray]:
        """Decoded examples, stacked: `{name: array[n, ...]}`."""
        examples = _read(self.records, indices)
        with _quiet():
            rows = self._decode(examples)
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def load(name: str, split: str, data_dir: str | None = None, encoded: Sequence[str] = ()) -> Sequence[dict]:
    """Examples of a split (`train`, `train[:90%]`, ...) as a random-access sequence of dicts.

    The features named by `encoded` are not decoded (an image is the bytes of its file).

    `name` is one of `BUILDERS`, or a prepared TFDS data set (`name/config:version`) in
    `data_dir`, else `TFDS_DATA_DIR`, else `~/tensorflow_datasets`. Raises UserError if there is no such data set or
    split, or it has no random access.
    """
    import tensorflow_datasets as tfds

    loaded = builder(name, data_dir)
    try:
        with _quiet():
            skipped = {feature: tfds.decode.SkipDecoding() for feature in encoded}
            return loaded.as_data_source(split, decoders=skipped or None)
    except NotImplementedError:
        raise UserError(
            f"{loaded.data_path} is stored as {loaded.info.file_format.value}, which has no random "
            "access; prepare it with file_format='array_record'"
        ) from None
    except ValueError:
        splits = ", ".join(loaded.info.splits)
        raise UserError(f"{name} has no split {split!r}; known: {splits}") from None


def builder(name: str, data_dir: str | None = None) -> "tfds.core.DatasetBuilder":
    """The TFDS builder of a prepared data set, whose `.info` has its features and splits. Raises UserError if there is none."""
    if name in BUILDERS:
        return _ours(name)
    from tensorflow_datasets.core.read_only_builder import builder_from_files

    folder = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    folder = os.path.expanduser(folder)
    try:
        return builder_from_files(name, data_dir=folder)
    except ValueError:  # not found, or not a name at all
        raise UserError(
            f"no prepared TFDS data set {name!r} in {folder}; set data_dir or TFDS_DATA_DIR, or "
            f"prepare it: tfds.builder({name!r}, data_dir={folder!r}, "
            "file_format='array_record').download_and_prepare()"
        ) from None


def arrays(name: str, split: str, features: Sequence[str]) -> dict[str, np.ndarray]:
    """`as_arrays` of one of `BUILDERS`, cached as .npy files."""
    folder = _ours(name).data_path / "arrays"
    paths = {feature: Path(folder) / f"{split}_{feature}.npy" for feature in features}
    if not all(path.exists() for path in paths.values()):
        Path(folder).mkdir(exist_ok=True)
        for feature, array in as_arrays(load(name, split), features).items():
            partial = paths[feature].with_suffix(f".{os.getpid()}.npy")
            np.save(partial, array)
            partial.rename(paths[feature])
    return {feature: np.load(path) for feature, path in paths.items()}


def examples(name: str, split: str) -> list[dict]:
    """All examples of a split of one of `BUILDERS`, in order, read in bulk: for texts, which do not form arrays."""
    records = load(name, split)
    chunks = (range(start, min(start + _CHUNK, len(records))) for start in range(0, len(records), _CHUNK))
    return [example for chunk in chunks for example in _read(records, chunk)]


def column(records: Sequence[dict], feature: str) -> np.ndarray:
    """One feature of all examples, array[n, ...]. With `load(..., encoded=[other])` the other feature is not decoded."""
    return as_arrays(records, [feature])[feature]


def as_arrays(records: Sequence[dict], features: Sequence[str]) -> dict[str, np.ndarray]:
    """All of `records` in memory: `{feature: array[n, ...]}`. All examples must have the same shapes."""
    out: dict[str, np.ndarray] = {}
    for start in range(0, len(records), _CHUNK):
        stop = min(start + _CHUNK, len(records))
        for i, example in enumerate(_read(records, range(start, stop)), start):
            for name in features:
                value = np.asarray(example[name])
                if name not in out:
                    out[name] = np.empty((len(records), *value.shape), value.dtype)
                out[name][i] = value
    return out


def _read(records: Sequence[dict], indices: Iterable[int]) -> Sequence[dict]:
    indices = [int(i) for i in indices]
    with _quiet():
        if hasattr(records, "__getitems__"):
            return records.__getitems__(indices)
        return [records[i] for i in indices]


def _ours(name: str) -> "tfds.core.DatasetBuilder":
    import tensorflow_datasets as tfds

    module = importlib.import_module(f"research.data.builders.{name}")
    ours = getattr(module, BUILDERS[name])(data_dir=str(data_folder() / "tfds"), file_format="array_record")
    if not _prepared(ours):
        fetch(getattr(ours, "FOLDER", name), ours.FILES)  # raises before preparing if a file is not available
        print(f"preparing {name} once, in {ours.data_path}", file=sys.stderr)
        tfds.disable_progress_bar()
        try:
            with _quiet(), contextlib.redirect_stdout(io.StringIO()):
                ours.download_and_prepare()  # into a temporary folder, then renamed
        except OSError:
            if not _prepared(ours):  # else another process prepared it first
                raise
            return _ours(name)
    return ours


def _prepared(ours: "tfds.core.DatasetBuilder") -> bool:
    return (Path(ours.data_path) / "dataset_info.json").exists()


@contextlib.contextmanager
def _quiet():
    """Silences TFDS's warning about OpenCV on stderr, which its reader without TensorFlow does not need."""
    before = absl.logging.get_verbosity()
    absl.logging.set_verbosity(absl.logging.ERROR)
    try:
        yield
    finally:
        absl.logging.set_verbosity(before)
