"""What a model says to the lines of a part, and how good it is."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.translation import final
from research.core.experiment import Evaluated
from research.core.step import cast
from research.data.buckets import Bucketed
from research.data.text.parallel import Parallel
from research.evals.bleu import bleu
from research.evals.lines import exact
from research.evals.rouge import rouge
from research.generation import beam
from research.models.text.transformer import Transformer
from research.util.errors import UserError, nearest
from research.util.files import write_text

SCORES = ("bleu", "exact", "rouge")
SHOWN = 20  # lines of a sample


class Said(NamedTuple):
    """Hypotheses in the order of the part, in words, with `scores` by name and what says how they were computed."""

    sources: list[str]
    references: list[str]
    hypotheses: list[str]
    scores: dict[str, float]
    signature: str

    def write(self, file: Path) -> None:
        rows = list(zip(self.sources, self.references, self.hypotheses, strict=True))[:SHOWN]
        text = "\n".join(f"source     {a}\nreference  {b}\nmodel      {c}\n" for a, b, c in rows)
        write_text(file, f"{text}\n{self.signature}\n")

    def write_all(self, file: Path) -> None:
        write_text(file, "".join(f"{line}\n" for line in self.hypotheses))


class Quality:
    """The evaluator: the scores of `cfg.scores`. Of "valid" by the likeliest token each time; of the splits that are measured at
    the end by the beam of `cfg.translate`, with the mean of the run's last checkpoints.

    `bleu` is of words as the data parts them where it is tokenised (tokenizer "word"), else of text by sacreBLEU's 13a;
    `bleu_raw`, where the data is tokenised and its lines are at hand as they were written, of text against those, by 13a in
    lower case.
    """

    def __init__(self, model: Transformer, data: Parallel, cfg: Any, sweeps: Mapping[str, Bucketed]):
        self._data, self._sweeps, self._width, self._names = data, sweeps, cfg.translate.beam, cfg.scores
        self._cfg = cfg
        self._tokenize = "none" if cfg.data.tokenizer == "word" else "13a"
        if unknown := [name for name in self._names if name not in SCORES]:
            raise UserError(f"scores: there is none called {unknown[0]!r}{nearest(unknown[0], SCORES)}")
        self._ratio, self._more, self._most = cfg.translate.ratio, cfg.translate.more, model.max_length
        special = data.target.special
        how = {k: cfg.translate[k] for k in ("penalty", "alpha", "early", "min_length")}
        how |= {"eos": data.eos, "banned": [i for name, i in special.items() if name not in ("eos", "unk")]}
        least = int(self._ratio * min(sweep.shapes[0]["source"].shape[1] for sweep in sweeps.values())) + self._more
        beam.check(min(least, self._most), self._width, data.eos, how["penalty"], how["min_length"])
        fn = partial(translate, model, data.bos, how, cfg.dtype)
        self.translate = partial(fn, width=self._width, length=model.max_length)
        self._fn = jax.jit(fn, static_argnames=("width", "length"))

    def __call__(self, state: Any, split: str, folder: Path) -> Evaluated:
        if split == "valid":
            said = self.say(state, "valid", width=1)
            return Evaluated(said.scores, {"greedy.txt": said.write})
        part = final.PARTS[split]
        averaged, line = final.averaged(folder, state, int(state.step), self._cfg)
        said = self.say(averaged, part)
        files = {f"{part}.txt": said.write, f"{part}.hypotheses": said.write_all}
        return Evaluated(said.scores, files, [line, f"{part:<8} scores: {said.signature}"])

    def say(self, state: Any, split: str, width: int | None = None) -> Said:
        """Every line of a split; `width` of the beam, None: that of the config."""
        sweep, lines = self._sweeps[split], self._data.corpus.parts[split]
        ids: dict[int, np.ndarray] = {}
        for number in range(len(sweep)):
            batch = sweep.batch(number)
            length = min(self._most, int(self._ratio * batch["source"].shape[1]) + self._more)
            inputs = {k: batch[k] for k in ("source", "source_mask")}
            found = self._fn(state.variables, inputs, width=width or self._width, length=length)
            ids |= dict(zip(sweep.numbers(number)[0].tolist(), np.asarray(found["tokens"]), strict=False))
        words = self._data.corpus.words
        hypotheses = [self._data.text(ids[i]) for i in range(len(ids))]
        references = [words(line) for line in lines.target]
        return Said(
            [words(line) for line in lines.source],
            references,
            hypotheses,
            *self._score(hypotheses, references, lines.raw),
        )

    def lead(self, split: str) -> dict[str, float]:
        """What is to beat by summaries: ROUGE of each source's first words, as many as a training target has in the mean.

        The PREFIX of Rush and others 2015 (1509.00685), which takes 75 bytes.
        """
        parts, words = self._data.corpus.parts, self._data.corpus.words
        count = round(np.mean([len(words(line).split()) for line in parts["train"].target]))
        heads = [" ".join(words(line).split()[:count]) for line in parts[split].source]
        return rouge(heads, [words(line) for line in parts[split].target])

    def _score(self, hypotheses: list[str], references: list[str], raw: list[str] | None) -> tuple[dict, str]:
        scores, signatures = {}, []
        if "bleu" in self._names:
            found = {"bleu": bleu(hypotheses, references, self._tokenize)}
            if raw is not None:
                written = [self._data.corpus.restore(line) for line in hypotheses]
                found["bleu_raw"] = bleu(written, raw, "13a", lowercase=True)
            scores = {name: one.value for name, one in found.items()}
            signatures = [f"{name} {one.signature}" for name, one in found.items()]
        if "exact" in self._names:
            scores["exact"] = exact(hypotheses, references)
            signatures.append("exact: share of lines")
        if "rouge" in self._names:
            scores |= rouge(hypotheses, references)
            signatures.append("rouge: F1, no stemming")
        return scores, "; ".join(signatures)


def translate(
    model: Transformer,
    bos: int,
    how: Mapping[str, Any],
    dtype: str,
    variables: Any,
    inputs: Any,
    *,
    width: int,
    length: int,
) -> dict:
    """{"source": i32[B, S], "source_mask": f32[B, S]} -> the best hypothesis {"tokens": i32[B, length], "score": f32[B]}."""
    variables = {**variables, "params": cast(variables["params"], dtype)}
    memory = model.apply(variables, inputs["source"], inputs["source_mask"], method="encode")
    memory, B = beam.repeat(memory, width), inputs["source"].shape[0]

    def step(tokens, cache):
        logits, cache = model.apply(variables, tokens[:, None], memory, cache, method="decode")
        return logits[:, 0], cache

    cache, first = model.init_cache(B, length, jnp.dtype(dtype)), jnp.full(B, bos, jnp.int32)
    found = beam.search(step, cache, first, length=length, beam=width, **how)
    return {"tokens": found.tokens[:, 0], "score": found.scores[:, 0]}
