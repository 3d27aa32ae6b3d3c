"""Pictures to pre-train on, without their labels, and labelled ones that probes are fitted and scored on."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from research.core.experiment import Baseline, Dataset
from research.data.draws import Drawn
from research.data.images import labelled
from research.data.images.picture_codecs import PictureEmbedding
from research.data.pipeline import EvalBatches, TrainBatches
from research.evals import probe
from research.util.errors import UserError

Embed = Callable[[np.ndarray], np.ndarray]  # pictures f32[n, Y, X, C] in 0..1 -> f32[n, D]


class Unlabelled(Drawn):
    """Pictures of a source, each with what it draws by: its views and its mask are functions of that."""

    def gather(self, indices: np.ndarray, epoch: int) -> dict[str, np.ndarray]:
        batch = super().gather(indices, epoch)
        return {"image": batch["image"], "draw": batch["draw"]}


class Pictures(Dataset):
    """Batches {"image": f32[B, Y, X, C] in 0..1, "draw": i32[B, 2]}.

    encoders  {name: pictures -> features} of the baselines; `build` adds the untrained network
    """

    def __init__(self, cfg: Mapping[str, Any], probing: Mapping[str, Any], seed: int):
        images = labelled.load(cfg)
        if images.valid is None:
            raise UserError("a probe's penalty is chosen on a validation part; set data.valid_fraction above 0")
        self.train = TrainBatches(Unlabelled(images.train), cfg["batch_size"], seed)
        self.parts = {"train": images.train, "valid": images.valid}
        if images.test is not None:
            self.parts["test"] = images.test
        self.evals = {
            part: EvalBatches(Unlabelled(source), cfg["eval_batch_size"])
            for part, source in self.parts.items()
            if part != "train"
        }
        self.shape = images.shape
        self.codec = PictureEmbedding(self.shape)
        self.encoders: dict[str, Embed] = {"pixels": lambda pictures: pictures.reshape(len(pictures), -1)}
        self._rows, self._neighbours = cfg["eval_batch_size"], probing["neighbours"]
        self._fitted = np.random.default_rng(0).permutation(len(images.train))[: probing["examples"]]
        if not 1 <= self._neighbours <= len(self._fitted):
            raise UserError(
                f"probe.neighbours = {self._neighbours}: from 1 to the {len(self._fitted):,} labelled pictures that "
                "probe.examples leaves"
            )
        self.report = [*images.report, f"probe    fitted on {len(self._fitted):,} labelled training pictures"]

    def baselines(self) -> dict[str, Baseline]:
        """Probes of the pixels and of the untrained network, on validation."""
        scores = {name: self.measure(embed, "valid")[0] for name, embed in self.encoders.items()}
        return {f"valid/{key}": Baseline({n: s[key] for n, s in scores.items()}) for key in ("probe", "knn")}

    def measure(
        self, embed: Embed, part: str, after_batch: Callable[[], Any] = lambda: None
    ) -> tuple[dict[str, float], probe.Probe]:
        """-> the accuracy on a part of the linear probe and of the nearest neighbours; the probe.

        The probe is fitted on training pictures, its penalty chosen on validation.
        """
        train, valid = (self._embedded(embed, name, after_batch) for name in ("train", "valid"))
        asked = valid if part == "valid" else self._embedded(embed, part, after_batch)
        fitted = probe.linear_probe(train, valid)
        found = probe.nearest_neighbours(train, asked.features, self._neighbours)
        return {"probe": fitted.accuracy(asked), "knn": float(np.mean(found == asked.labels))}, fitted

    def _embedded(self, embed: Embed, part: str, after_batch: Callable[[], Any]) -> probe.Examples:
        source, features = self.parts[part], []
        rows = self._fitted if part == "train" else np.arange(len(source))
        for start in range(0, len(rows), self._rows):
            chosen = rows[start : start + self._rows]
            filled = np.resize(chosen, self._rows)  # batches of one shape
            features.append(np.asarray(embed(source.gather(filled, 0)["image"]), np.float32)[: len(chosen)])
            after_batch()
        return probe.Examples(np.concatenate(features), source.labels()[rows])
