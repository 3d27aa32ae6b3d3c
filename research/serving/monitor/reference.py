"""The reference: signals of held-out data, stored in a bundle when it is exported, with which service is compared."""

import io
import zipfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from research.core.experiment import Experiment
from research.serving import parity
from research.serving.monitor import signals
from research.util.errors import UserError

FILE = "reference.npz"
MOST = 2_000  # rows
LEAST = 50
LABEL = "label"  # the entry with the rows' true classes


class Reference(NamedTuple):
    """Signals {name: f32[N, k]} of N rows of held-out data, and their true classes i[N], if it is a classifier's."""

    signals: Mapping[str, np.ndarray]
    labels: np.ndarray | None = None

    def to_bytes(self) -> bytes:
        """The contents of an .npz file; the same reference gives the same bytes."""
        file = io.BytesIO()
        labels = {} if self.labels is None else {LABEL: self.labels}
        np.savez(file, allow_pickle=False, **self.signals, **labels)
        return file.getvalue()


def from_bytes(blob: bytes) -> Reference:
    """What `to_bytes` returned. Raises UserError if it is something else."""
    try:
        with np.load(io.BytesIO(blob), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{FILE} cannot be read: {error}; export the run again") from None
    labels = arrays.pop(LABEL, None)
    bad = [name for name, x in arrays.items() if x.ndim != 2 or name.split()[-1] not in signals.STATISTIC]
    if bad or not arrays or len({len(x) for x in arrays.values()}) != 1:
        raise UserError(f"{FILE} is no reference of this version: export the run again")
    return Reference(arrays, labels)


def of_experiment(fn: Callable[[Mapping], Mapping], e: Experiment) -> Reference | None:
    """The reference of an experiment whose model is `fn`, {name: array} -> {name: array}.

    None if no split has the model's inputs, none of them is a text, a picture or a table, or there are fewer than LEAST rows;
    and for a model of texts that is no classifier, since training cuts and masks texts as requests are not.
    """
    codec, (split, batches) = e.predictor.codec, parity.held_out(e)
    kinds = set(signals.kinds(codec).values())
    if not split or not kinds or ("text" in kinds and not getattr(e.data, "classes", None)):
        return None
    return of_batches(fn, codec, batches)


def of_batches(fn: Callable[[Mapping], Mapping], codec: Any, batches: Iterable[Mapping]) -> Reference | None:
    """The reference of the first MOST rows of batches {name: array} with "mask", 1 for real rows; None for fewer than LEAST."""
    parts: list[dict[str, np.ndarray]] = []
    labels: list[np.ndarray] = []
    rows = 0
    for batch in batches:
        inputs, real = {name: batch[name] for name in codec.inputs}, np.asarray(batch["mask"]) > 0
        outputs = jax.device_get(fn(inputs))
        found = signals.of_inputs(codec, inputs) | signals.of_outputs(outputs)
        parts.append({name: x[real] for name, x in found.items()})
        if "class" in found and np.ndim(batch.get(LABEL)) == 1:
            labels.append(np.asarray(batch[LABEL])[real])
        rows += int(real.sum())
        if rows >= MOST:
            break
    if rows < LEAST:
        return None
    joined = {name: np.concatenate([part[name] for part in parts])[:MOST] for name in parts[0]}
    return Reference(joined, np.concatenate(labels)[:MOST] if labels else None)
