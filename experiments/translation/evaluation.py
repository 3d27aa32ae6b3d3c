"""Translates a split and scores the translations."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.translation import average_checkpoints
from research.core.config import TrackedConfig
from research.core.experiment import Evaluated
from research.data.text.translation import Translation
from research.evals.bleu import bleu
from research.evals.exact_match import exact_match
from research.evals.rouge import rouge
from research.generation import beam
from research.util.errors import UserError, nearest
from research.util.files import write_text

SCORES = ("bleu", "exact", "rouge")
METRICS = ("bleu", "bleu_raw", "exact", "rouge1", "rouge2", "rougeL")
SAMPLE_LINES = 20


class Translated(NamedTuple):
    """The lines of a part as words, the scores by name, and a signature that states how they were computed."""

    sources: list[str]
    references: list[str]
    hypotheses: list[str]
    scores: dict[str, float]
    signature: str

    def write(self, file: Path) -> None:
        """Writes the first SAMPLE_LINES lines, each with its source and reference."""
        rows = list(zip(self.sources, self.references, self.hypotheses, strict=True))[:SAMPLE_LINES]
        text = "\n".join(f"source     {a}\nreference  {b}\nmodel      {c}\n" for a, b, c in rows)
        write_text(file, f"{text}\n{self.signature}\n")

    def write_all(self, file: Path) -> None:
        """Writes all hypotheses, one per line."""
        write_text(file, "".join(f"{line}\n" for line in self.hypotheses))


class Translations:
    """The evaluator, for the metrics in `cfg.scores`, of parts whose targets are of one language (`Translation.one_way`).

    In training the validation part is decoded greedily; the splits that are evaluated at the end are decoded by the beam
    search of `cfg.translate` with the mean of the run's last checkpoints.

    search  (variables, inputs, width=, length=) -> {"tokens": i32[B, length]}

    `bleu` is computed on the data's own words if it is tokenised (tokenizer "word"), else on text, with sacreBLEU's 13a.
    `bleu_raw`, for tokenised data whose original lines are available, is computed against those, with 13a in lower case.
    Raises UserError if `cfg.scores` has an unknown name or the beam's options are out of range.
    """

    def __init__(self, search: Callable, data: Translation, cfg: TrackedConfig):
        if unknown := [name for name in cfg.scores if name not in SCORES]:
            raise UserError(f"scores: no metric {unknown[0]!r}{nearest(unknown[0], SCORES)}")
        self._data, self._cfg, self._scores = data, cfg, cfg.scores
        self._at_end = average_checkpoints.splits(data.one_way)
        self._width, self._ratio, self._more = (cfg.translate[key] for key in ("beam", "ratio", "more"))
        self._tokenize = "none" if cfg.data.tokenizer == "word" else "13a"
        shortest = min(batches.shapes[0]["source"].shape[1] for batches in data.evals.values())
        penalty, min_length = cfg.translate.penalty, cfg.translate.min_length
        beam.check(self._length(shortest), self._width, data.codec.eos, penalty, min_length)
        self._search = jax.jit(search, static_argnames=("width", "length"))

    def __call__(self, state: Any, split: str, folder: Path, after_batch: Callable[[], Any]) -> Evaluated:
        if split not in self._at_end:
            if split not in self._data.one_way or not self._scores:
                return Evaluated({})
            translated = self.translate(state, split, 1, after_batch)
            return Evaluated(translated.scores, {f"{split.replace('valid', 'greedy')}.txt": translated.write})
        part = self._at_end[split]
        averaged, line = average_checkpoints.averaged(folder, state, int(state.step), self._cfg)
        translated = self.translate(averaged, part, None, after_batch)
        files = {f"{part}.txt": translated.write, f"{part}.hypotheses": translated.write_all}
        return Evaluated(translated.scores, files, [line, f"{part:<8} scores: {translated.signature}"])

    def translate(
        self, state: Any, part: str, width: int | None = None, after_batch: Callable[[], Any] = lambda: None
    ) -> Translated:
        """Translates all lines of a part, in order. `width` is that of the beam; None: the config's."""
        batches, lines, words = self._data.evals[part], self._data.corpus.parts[part], self._data.corpus.form.words
        tokens: dict[int, np.ndarray] = {}  # by line
        for number in range(len(batches)):
            batch = batches.batch(number)
            inputs = {k: batch[k] for k in ("source", "source_mask")}
            length = self._length(batch["source"].shape[1])
            outputs = self._search(state.variables, inputs, width=width or self._width, length=length)
            tokens |= dict(zip(batches.numbers(number)[0].tolist(), np.asarray(outputs["tokens"]), strict=False))
            after_batch()
        sources, references = ([words(line) for line in side] for side in (lines.source, lines.target))
        hypotheses = [self._data.codec.text(tokens[i]) for i in range(len(tokens))]
        way = self._data.corpus.directions.get(part.partition("_")[2], self._data.corpus)
        return Translated(
            sources, references, hypotheses, *self._score(hypotheses, references, lines.raw, way.form.restore)
        )

    def _length(self, source: int) -> int:
        """The most tokens of a translation, for a number of source tokens."""
        return min(self._data.max_length, int(self._ratio * source) + self._more)

    def _score(
        self, hypotheses: list[str], references: list[str], raw: list[str] | None, restore: Callable[[str], str]
    ) -> tuple[dict, str]:
        scores, signatures = {}, []
        if "bleu" in self._scores:
            by_name = {"bleu": bleu(hypotheses, references, self._tokenize)}
            if raw is not None:
                by_name["bleu_raw"] = bleu([*map(restore, hypotheses)], raw, "13a", lowercase=True)
            scores = {name: score.value for name, score in by_name.items()}
            signatures = [f"{name} {score.signature}" for name, score in by_name.items()]
        if "exact" in self._scores:
            scores["exact"] = exact_match(hypotheses, references)
            signatures.append("exact: share of lines")
        if "rouge" in self._scores:
            scores |= rouge(hypotheses, references)
            signatures.append("rouge: F1, no stemming")
        return scores, "; ".join(signatures)


def search_options(cfg: Mapping[str, Any], data: Translation) -> dict[str, Any]:
    """A config's `translate` group -> arguments of `beam.search`. Bans all special tokens except the end and the unknown one."""
    options = {key: cfg[key] for key in ("penalty", "alpha", "early", "min_length")}
    special = data.target.special
    said = {special[name] for name in ("eos", "unk") if name in special}
    return {**options, "eos": data.codec.eos, "banned": sorted({*special.values(), data.bos} - said)}
