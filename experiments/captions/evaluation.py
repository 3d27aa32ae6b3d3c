"""Writes the texts of a split and scores them: captions by words and by what they state, answers by kind of question."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments.captions import grammar, questions, scenes
from experiments.captions.codec import DESCRIBE
from experiments.captions.data import CAPTION, Captions, Example
from research.core.experiment import Evaluated
from research.evals.bleu import bleu
from research.evals.exact_match import exact_match
from research.util import figures
from research.util.files import write_text

SAMPLES = 40  # texts that are written beside their references
SHOWN = 4  # scenes of the picture


class Evaluation:
    """The evaluator. Files: "SPLIT.txt", samples beside their references, and "SPLIT.png", scenes with captions and answers.

    write  (variables, {"image": f32[B, Y, X, C], "prompt": i32[B, P]}) -> {"tokens": i32[B, T]}
    """

    METRICS = ("exact", "bleu", "true", "named", "answers", *questions.KINDS)

    def __init__(self, write: Callable, data: Captions):
        self._write, self._data = jax.jit(write), data

    def __call__(self, state: Any, split: str, folder: Path, after_batch: Callable[[], Any]) -> Evaluated:
        batches, source, codec = self._data.evals[split], self._data.parts[split], self._data.codec
        texts: list[str] = []
        for number in range(len(batches)):
            batch = batches.batch(number)
            inputs = {name: batch[name] for name in codec.inputs}
            texts += map(codec.text, np.asarray(self._write(state.variables, inputs)["tokens"]))
            after_batch()
        rows, texts = [*map(source.example, range(len(source)))], texts[: len(source)]
        files = {f"{split}.txt": partial(samples, rows, texts), f"{split}.png": partial(self._draw, state, split)}
        return Evaluated(score(rows, texts), files)

    def _draw(self, state: Any, split: str, path: Path) -> None:
        """Scenes of questions, each with the caption that is written and the answer; what is wrong is red."""
        codec, rows = self._data.codec, list(self._data.parts[split].questions(2 * SHOWN))

        def write(prompt: str, scene: scenes.Scene) -> str:
            outputs = self._write(state.variables, codec.encode((prompt, scenes.render(scene))))
            return codec.text(np.asarray(outputs["tokens"])[0])

        figure = Figure(figsize=(2.6 * SHOWN, 4.0))
        FigureCanvasAgg(figure)
        figure.subplots_adjust(left=0.01, right=0.99, bottom=0.36, top=0.99, wspace=0.04)
        for i, row in enumerate(rows):
            axes = figure.add_subplot(1, SHOWN, i + 1, xticks=[], yticks=[])
            axes.imshow(scenes.render(row.scene))
            caption, answer = write(DESCRIBE, row.scene), write(row.prompt, row.scene)
            lines = (
                (-0.03, caption.replace(" a ", "\na "), caption == grammar.caption(row.scene)),
                (-0.33, row.prompt.replace(" object ", " object\n") + "?", True),
                (-0.47, answer, answer == row.text),
            )
            for height, text, right in lines:
                colour = "black" if right else "tab:red"
                axes.text(0, height, text, transform=axes.transAxes, va="top", fontsize=7.5, color=colour)
        figures.save(figure, path, dpi=110)


def score(rows: list[Example], texts: list[str]) -> dict[str, float]:
    """Of captions BLEU (0..100), and shares in 0..1: of exact ones, of true statements in each, of the scene's objects named.

    Of answers the share that is right, over all ("answers") and by kind of question.
    """
    pairs = list(zip(rows, texts, strict=True))
    captions = [(row, text) for row, text in pairs if row.kind == CAPTION]
    references, hypotheses = [row.text for row, _ in captions], [text for _, text in captions]
    true, named = np.mean([grammar.judge(text, row.scene) for row, text in captions], 0).tolist()
    right = {kind: [text == row.text for row, text in pairs if row.kind == kind] for kind in questions.KINDS}
    return {
        "exact": exact_match(hypotheses, references),
        "bleu": bleu(hypotheses, references).value,
        "true": true,
        "named": named,
        "answers": float(np.mean(sum(right.values(), []))),
        **{kind: float(np.mean(hits)) for kind, hits in right.items()},
    }


def samples(rows: list[Example], texts: list[str], file: Path) -> None:
    """Writes the first SAMPLES texts, each with its prompt and reference."""
    lines = [
        f"prompt     {row.prompt}\nreference  {row.text}\nmodel      {text}\n"
        for row, text in list(zip(rows, texts, strict=True))[:SAMPLES]
    ]
    write_text(file, "\n".join(lines))
