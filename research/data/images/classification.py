"""Image classification: batches of labelled images."""

import dataclasses
from collections import ChainMap
from collections.abc import Mapping
from typing import Any

import numpy as np

from research.core.experiment import Baseline, Codec, Dataset
from research.data import feedback_sets, further_sets, user_files
from research.data.images import labelled
from research.data.images.picture_codecs import PictureClass
from research.data.pipeline import EvalBatches, TrainBatches
from research.util.errors import UserError


class ImageClassification(Dataset):
    """Batches {"image": f32[B, Y, X, C] in 0..1, "label": i32[B]}; `classes` are names, `shape` is (Y, X, C).

    `training` are the examples that are trained on; `new`, if there are any, the split of that name.
    """

    def __init__(
        self,
        images: labelled.Images,
        batch_size: int,
        eval_batch_size: int,
        seed: int,
        new: labelled.Labelled | None = None,
    ):
        held_out = {"valid": images.valid, "test": images.test, "new": new}
        self.training = images.train
        self.train = TrainBatches(images.train, batch_size, seed)
        self.evals = {name: EvalBatches(part, eval_batch_size) for name, part in held_out.items() if part is not None}
        if not self.evals:
            raise UserError("the data has neither a validation nor a test part; set data.valid_fraction above 0")
        self.classes, self.shape, self.report = images.classes, images.shape, images.report
        self.codec: Codec = PictureClass(images.shape, tuple(images.classes))
        self._eval_batch_size = eval_batch_size

    def baselines(self) -> Mapping[str, Baseline]:
        split, batches = next(iter(self.evals.items()))
        return {f"{split}/accuracy": Baseline({"most frequent class": labelled.most_frequent(batches.source)})}

    def eval_batches(self, cfg: Mapping[str, Any]) -> EvalBatches:
        rows, columns, channels = self.shape
        ours = {"size": (rows, columns), "channels": channels}
        images = labelled.load(ChainMap(ours, cfg))  # type: ignore[arg-type]  # which is only read
        self.report = [*self.report, *images.report]
        if images.shape != self.shape:
            raise UserError(f"{cfg['source']}: pictures of {images.shape}; the model was built for {self.shape}")
        sources = {"train": images.train, "valid": images.valid, "test": images.test}
        numbers = further_sets.class_numbers(images.classes, self.classes)
        present = [name for name, source in sources.items() if source is not None]
        names = further_sets.choose_parts(present, cfg["part"])
        return EvalBatches(labelled.Joined([sources[name] for name in names], numbers), self._eval_batch_size)


def load(cfg: Mapping[str, Any], seed: int) -> ImageClassification:
    """The data set of a config's `data` group. Raises UserError if there is none, or it has no held-out part."""
    images, new = _with_extra(labelled.load(cfg), cfg)
    return ImageClassification(images, cfg["batch_size"], cfg["eval_batch_size"], seed, new)


def _with_extra(images: labelled.Images, cfg: Mapping[str, Any]) -> tuple[labelled.Images, labelled.Labelled | None]:
    """The images, to train on those of the set of feedback `data.extra` too, and the images that it holds out."""
    path = user_files.option(cfg, "extra", None)
    if path is None:
        return images, None
    *size, channels = images.shape
    extra = labelled.load({"source": "feedback", "path": path, "size": size, "channels": channels})
    numbers = further_sets.class_numbers(extra.classes, images.classes)
    share = user_files.option(cfg, "extra_share", None)
    rows = feedback_sets.repeated(len(extra.train), len(images.train), share)
    ours = labelled.Joined([labelled.ImageSource(extra.train, rows, extra.train.labels, white=1)], numbers)
    train = labelled.Joined([images.train, ours], np.arange(len(images.classes)))
    new = None if extra.test is None else labelled.Joined([extra.test], numbers)
    return dataclasses.replace(images, train=train, report=[*images.report, *extra.report]), new
