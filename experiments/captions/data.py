"""Scenes, each with a prompt and the text that it asks for."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from experiments.captions import grammar, questions, scenes
from experiments.captions.codec import DESCRIBE, PROMPT_LENGTH, Description, padded
from experiments.captions.model import PAD
from research.core.experiment import Baseline, Dataset
from research.data import tokenizers
from research.data.pipeline import EvalBatches, TrainBatches
from research.data.tokenizers import Tokenizer
from research.util.errors import UserError

PARTS = ("train", "valid", "test", "novel")  # in each scene of novel is a colour with a shape that training never has
CAPTION = "caption"  # the kind of example beside those of questions.KINDS
ORDER = [kind for question in questions.KINDS for kind in (CAPTION, question)]  # of the kinds, again and again
SHAPE = (scenes.SIDE, scenes.SIDE, 3)
TEXT_LENGTH = 24  # four objects of four words, three relations of at most two, and the end
SAMPLE = 20_000  # examples of a part that the baselines are counted in, at most


class Example(NamedTuple):
    kind: str
    scene: scenes.Scene
    prompt: str
    text: str


class Examples:
    """A source of `count` examples, each a function of (seed, part, index); index mod len(ORDER) decides the kind.

    {"image": f32[n, Y, X, 3] in 0..1, "prompt": i32[n, P], "tokens", "targets": i32[n, T], "targets_mask": f32[n, T]}
    """

    def __init__(self, part: str, count: int, seed: int, tokenizer: Tokenizer):
        self._part, self._count, self._seed, self._tokenizer = PARTS.index(part), count, seed, tokenizer
        self._novel = part == "novel"

    def __len__(self) -> int:
        return self._count

    def example(self, index: int) -> Example:
        rng, kind = np.random.default_rng((self._seed, self._part, index)), ORDER[index % len(ORDER)]
        if kind == CAPTION:
            scene = scenes.compose(rng, scenes.draw_pairs(rng, self._novel))
            return Example(kind, scene, DESCRIBE, grammar.caption(scene))
        return Example(kind, *questions.KINDS[kind](rng, self._novel))

    def questions(self, most: int) -> Iterator[Example]:
        """Those among the first `most` examples."""
        return (row for row in map(self.example, range(min(most, len(self)))) if row.kind != CAPTION)

    def gather(self, indices: np.ndarray, epoch: int) -> dict[str, np.ndarray]:
        rows = [self.example(int(index)) for index in indices]
        special = self._tokenizer.special
        texts = [self._tokenizer.encode(row.text).tolist() for row in rows]
        targets = padded([[*text, special["eos"]] for text in texts], TEXT_LENGTH)
        return {
            "image": np.stack([scenes.render(row.scene) for row in rows]).astype(np.float32) / 255,
            "prompt": padded([self._tokenizer.encode(row.prompt).tolist() for row in rows], PROMPT_LENGTH),
            "tokens": padded([[special["bos"], *text] for text in texts], TEXT_LENGTH),
            "targets": targets,
            "targets_mask": (targets != PAD).astype(np.float32),
        }


class Captions(Dataset):
    """Batches as `Examples` has them. Held-out parts are the same for every seed."""

    def __init__(self, cfg: Mapping[str, Any], seed: int):
        counts = {part: cfg["count"] if part == "train" else cfg["eval_count"] for part in PARTS}
        if min(counts.values()) < len(ORDER):
            raise UserError(
                f"data.count = {cfg['count']}, data.eval_count = {cfg['eval_count']}: at least {len(ORDER)} each, "
                "an example of every kind of question, and as many captions"
            )
        tokenizer = vocabulary()
        self.tokenizers, self.bos = (tokenizer,), tokenizer.special["bos"]
        self.parts = {part: Examples(part, n, seed if part == "train" else 0, tokenizer) for part, n in counts.items()}
        self.train = TrainBatches(self.parts["train"], cfg["batch_size"], seed)
        self.evals = {part: EvalBatches(self.parts[part], cfg["eval_batch_size"]) for part in PARTS[1:]}
        self.codec = Description(SHAPE, tokenizer, PROMPT_LENGTH)
        held_out = ", ".join(map(" ".join, scenes.HELD_OUT))
        self.report = [
            "source   generated scenes, half of them with their caption, half with a question",
            f"split    {', '.join(f'{n:,} {part}' for part, n in counts.items())}",
            f"held out of all but novel: {held_out}",
        ]

    def baselines(self) -> dict[str, Baseline]:
        """Accuracy of the most frequent answer of each kind of question, and of that to the same words: the question alone.

        Both are counted in training.
        """
        counts: dict[str, Counter] = {}
        for row in self.parts["train"].questions(SAMPLE):
            for key in (row.kind, row.prompt):
                counts.setdefault(key, Counter())[row.text] += 1
        answers = {key: counter.most_common(1)[0][0] for key, counter in counts.items()}
        right: dict[str, list[tuple]] = {}
        for split in self.evals:
            for row in self.parts[split].questions(SAMPLE):
                common = answers[row.kind]
                hits = (row.text == common, row.text == answers.get(row.prompt, common))
                right.setdefault(f"{split}/{row.kind}", []).append(hits)
        names = ("most frequent answer", "question alone")
        return {key: Baseline(dict(zip(names, np.mean(hits, 0).tolist(), strict=True))) for key, hits in right.items()}


def vocabulary() -> Tokenizer:
    """The words of all prompts and texts, and of the kinds of questions."""
    words = [*scenes.SIZES, *scenes.COLOURS, *scenes.SHAPES, *grammar.RELATIONS, *questions.PLURALS.values()]
    words += [*questions.COUNTS, "yes", "no", DESCRIBE, "a", *questions.KINDS]
    words += ["what is the object", "how many are there", "is there a"]
    unique = " ".join(dict.fromkeys(" ".join(words).split()))
    return tokenizers.make("word", unique, lowercase=True, special=("bos", "eos"))
