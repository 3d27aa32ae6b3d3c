"""Scenes with a prompt and the text that answers it, and the way from a user's picture to such a text."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.captions import grammar, questions, scenes
from experiments.captions.model import PAD
from research.core.experiment import Baseline, Dataset
from research.data import codecs, tokenizers, user_files
from research.data.images.picture_codecs import Picture
from research.data.pipeline import EvalBatches, TrainBatches
from research.data.tokenizers import Tokenizer
from research.util.errors import UserError

PARTS = (
    "train",
    "valid",
    "test",
    "novel",
)  # each scene of novel has a pair of colour and shape that training never has
DESCRIBE = "describe"  # the prompt of a caption
CAPTION = "caption"  # its kind, beside those of questions.KINDS
ORDER = [
    kind for question in questions.KINDS for kind in (CAPTION, question)
]  # of the examples' kinds, again and again
SHAPE = (scenes.SIDE, scenes.SIDE, 3)
PROMPT_LENGTH = 12  # tokens; the longest question has eleven
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
        targets = _padded([[*text, special["eos"]] for text in texts], TEXT_LENGTH)
        return {
            "image": np.stack([scenes.render(row.scene) for row in rows]).astype(np.float32) / 255,
            "prompt": _padded([self._tokenizer.encode(row.prompt).tolist() for row in rows], PROMPT_LENGTH),
            "tokens": _padded([[special["bos"], *text] for text in texts], TEXT_LENGTH),
            "targets": targets,
            "targets_mask": (targets != PAD).astype(np.float32),
        }


def _padded(rows: list[list[int]], length: int) -> np.ndarray:
    return np.array([[*row, *[PAD] * (length - len(row))] for row in rows], np.int32)


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
    """The words of all prompts and texts."""
    words = [*scenes.SIZES, *scenes.COLOURS, *scenes.SHAPES, *grammar.RELATIONS, *questions.PLURALS.values()]
    words += [*questions.COUNTS, "yes", "no", DESCRIBE, "a", *questions.KINDS]
    words += ["what is the object", "how many are there", "is there a"]
    unique = " ".join(dict.fromkeys(" ".join(words).split()))
    return tokenizers.make("word", unique, lowercase=True, special=("bos", "eos"))


@codecs.register("described_picture")
@dataclasses.dataclass(frozen=True)
class Description(Picture):
    """A picture <-> its caption; (a question, a picture) <-> the answer."""

    tokenizer: Tokenizer
    prompt_length: int

    @property
    def inputs(self) -> dict[str, tuple]:
        return {**super().inputs, "prompt": (("b", self.prompt_length), "int32")}

    def encode(self, value: Any) -> dict[str, np.ndarray]:
        """A picture as `Picture.encode` takes it, or (question, picture) -> one row of inputs.

        Raises UserError for any other value, and if the question is empty, too long or has a word that training has not.
        """
        question, picture = value if isinstance(value, tuple) and len(value) == 2 else (DESCRIBE, value)
        if not isinstance(question, str) or isinstance(picture, str | tuple):
            raise UserError("want a picture, or a question and a picture")
        words = question.replace("?", " ").split()
        ids = self.tokenizer.encode(" ".join(words))
        if unknown := [word for word, i in zip(words, ids, strict=True) if i == self.tokenizer.special["unk"]]:
            raise UserError(f"the question has the word {unknown[0]!r}, which is in no question of training")
        if not 1 <= len(ids) <= self.prompt_length:
            raise UserError(f"a question of {len(ids)} words: want 1 to {self.prompt_length}")
        return {**super().encode(picture), "prompt": _padded([ids.tolist()], self.prompt_length)}

    def decode(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """{"tokens": i32[1, T], "score": f32[1]} -> the text, and its probability."""
        probability = float(np.exp(np.asarray(outputs["score"])[0]))
        return {"text": self.text(np.asarray(outputs["tokens"])[0]), "probability": round(probability, 4)}

    def text(self, ids: np.ndarray) -> str:
        """Target tokens i32[T] up to the first end -> words."""
        ends = np.flatnonzero(ids == self.tokenizer.special["eos"])
        return self.tokenizer.decode(ids[: ends[0]] if len(ends) else ids)

    def read(self, file: Path) -> Any:
        """A picture; or of a .txt (question, picture): the question in the first line, after it the path of its picture."""
        if file.suffix.lower() != ".txt":
            return super().read(file)
        question, path = user_files.read_pair(file)
        if not path.strip():
            raise UserError(f"{file}: want a question in the first line, and in the second the path of its picture")
        return question, super().read(file.parent / path.strip())
