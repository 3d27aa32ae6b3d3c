"""Paraphrases by back-translation (Sennrich et al. 2016, 1511.06709): a text is translated by sampling, and that back."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.translation import train
from research.core.experiment import Experiment
from research.data.text import directions
from research.data.text.translation import Translation
from research.generation import ancestral
from research.util.errors import UserError

ROWS = 128  # translated at a time
PLACES = 16  # a batch's tokens are padded to a multiple of it, so that few shapes are compiled

Model = tuple[Experiment, Any]  # an experiment of this family, and its state


class Paraphrases(NamedTuple):
    """Of each text its distinct paraphrases, without those that are empty or the text itself; how many texts were too long."""

    rows: list[list[str]]
    too_long: int


def paraphrases(
    out: Model, back: Model | None, texts: Sequence[str], *, count: int, temperature: float, seed: int
) -> Paraphrases:
    """`count` times: a translation of each text by `out`, drawn at `temperature`, and its most probable translation by `back`.

    back  of the reversed pair; None: `out` translates both ways

    What a text becomes is a function of its place and the seed. A text of more tokens than the model reads has none. Raises
    UserError if the runs do not translate there and back.
    """
    tags = _tags(out[0], back[0] if back else None)
    there, again = _Translator(out, tags[0]), _Translator(back or out, tags[1])
    fits = [i for i, text in enumerate(texts) if there.fits(text)]
    rows: list[list[str]] = [[] for _ in texts]
    for draw in range(count):
        keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(seed)))(np.array(fits, np.int32) * count + draw)
        foreign = there([texts[i] for i in fits], keys, temperature)
        for i, new in zip(fits, again(foreign), strict=True):
            if new and new != texts[i] and new not in rows[i]:
                rows[i].append(new)
    return Paraphrases(rows, len(texts) - len(fits))


def _tags(out: Experiment, back: Experiment | None) -> tuple[str, str]:
    """What a line begins with, there and back. Raises UserError if the runs do not translate there and back."""
    for e in (out, back or out):
        if not isinstance(e.data, Translation):
            raise UserError(f"{e.cfg.name} is no translation run: train one, as translation/multi30k_many")
    pair = out.cfg.data.pair
    if back is None:
        if not out.data.corpus.directions:
            raise UserError(f"{out.cfg.name} translates {pair} alone: give --back, a run of the other way")
        there, again = directions.tags_of(out.cfg.data)
        return f"<{there}> ", f"<{again}> "
    wanted, given = "-".join(reversed(str(pair).split("-"))), str(back.cfg.data.pair)
    if back.data.corpus.directions or out.data.corpus.directions or given != wanted:
        raise UserError(
            f"--back is a run of {given}: want one of {wanted}, and of that way alone, as the first of {pair}"
        )
    return "", ""


class _Translator:
    def __init__(self, model: Model, tag: str):
        e, state = model
        self._data, self._variables, self._tag = e.data, state.variables, tag
        self._more, self._ratio = e.cfg.translate.more, e.cfg.translate.ratio
        self._draw = jax.jit(partial(_draw, e.model, bos=e.data.bos, eos=e.data.codec.eos), static_argnames=("length",))

    def _line(self, text: str) -> str:
        return self._data.corpus.form.prepare(f"{self._tag}{text}") if text.strip() else ""

    def fits(self, text: str) -> bool:
        """Whether the model reads all tokens of a text, and there is one."""
        return 0 < len(self._data.source.encode(self._line(text))) < min(self._data.length, self._data.max_length)

    def __call__(self, texts: Sequence[str], keys: Any = None, temperature: float = 1.0) -> list[str]:
        """A translation of each text; of one that does not fit, ""."""
        lines = [self._line(text) if self.fits(text) else "" for text in texts]
        order = np.argsort([len(line) for line in lines], kind="stable")
        out = [""] * len(lines)
        for start in range(0, len(order), ROWS):
            rows = order[start : start + ROWS]
            inputs = _padded(self._data.codec.encode_lines([lines[i] for i in rows]), self._data.max_length)
            length = min(int(self._ratio * inputs["source"].shape[1]) + self._more, self._data.max_length)
            chosen = None if keys is None else keys[np.resize(rows, ROWS)]
            tokens = self._draw(self._variables, inputs, chosen, temperature, length=length)
            outputs = {"tokens": np.asarray(tokens), "asked": inputs["source"][:, 0]}
            for i, line in zip(rows, self._data.codec.decode(outputs)["lines"], strict=False):
                out[i] = " ".join(line.split()) if lines[i] else ""
        return out


def _padded(inputs: dict[str, np.ndarray], most: int) -> dict[str, np.ndarray]:
    """Rows up to ROWS, columns up to a multiple of PLACES, or `most`; added rows are the first one's."""
    n, S = inputs["source"].shape
    columns = max(S, min(-(-S // PLACES) * PLACES, most)) - S
    return {name: np.pad(x, ((0, 0), (0, columns)))[np.resize(np.arange(n), ROWS)] for name, x in inputs.items()}


def _draw(model, variables, inputs, keys, temperature, *, length: int, bos: int, eos: int) -> jax.Array:
    step, cache = train.decoder(model, variables, inputs, 1, length, "float32")
    first = np.full(ROWS, bos, np.int32)
    return ancestral.sample(step, cache, first, keys, length=length, eos=eos, temperature=temperature)
