"""BERT's pre-training: batches of masked segment pairs of a corpus, and texts with [MASK]s to fill in.

Config: the keys of `corpora`, tokenizer with its options; length (tokens of a pair, T), short, mask_rate,
predictions and whole_word (`masked`), batch_size, eval_batch_size.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from research.core.experiment import Baseline, Codec, Dataset
from research.data import codecs, top, user_files
from research.data.pipeline import EvalBatches, TrainBatches
from research.data.text import corpora, language_modelling, masked
from research.data.tokenizers import Tokenizer
from research.util.errors import UserError

MASK, SEP = "[MASK]", "[SEP]"  # in a text to fill in


class BertPretraining(Dataset):
    """Batches of masked segment pairs (see `masked.Masked`); those of "valid" do not depend on the seed."""

    def __init__(
        self, documents: Mapping[str, masked.Documents], tokenizer: Tokenizer, report: list[str], cfg: Any, seed: int
    ):
        self._documents, self.tokenizer, self.tokenizers = documents, tokenizer, (tokenizer,)
        self.length = cfg["length"]
        sources = {}
        for part, part_seed in (("train", seed), ("valid", None)):
            pairs = masked.SegmentPairs(documents[part], self.length, tokenizer, part_seed, cfg["short"])
            options = (cfg["mask_rate"], cfg["predictions"], cfg["whole_word"])
            sources[part] = masked.Masked(pairs, tokenizer, part_seed, *options)
        self.train = TrainBatches(sources["train"], cfg["batch_size"], seed)
        self.evals = {"valid": EvalBatches(sources["valid"], cfg["eval_batch_size"])}
        counts = ", ".join(f"{len(source):,} to {part}" for part, source in sources.items())
        self.report = [*report, f"pairs    {counts}; {sources['train'].predictions} masked tokens at most in one"]
        self.codec = FilledMasks(tokenizer, self.length)

    def baselines(self) -> Mapping[str, Baseline]:
        train, valid = (self._documents[part].tokens for part in ("train", "valid"))
        unigram = language_modelling.baselines(train, valid, self.tokenizer.size)["unigram"]
        return {"valid/mlm_loss": Baseline({"unigram": unigram}, "nats/token")}


@codecs.register("filled_masks")
@dataclasses.dataclass(frozen=True)
class FilledMasks(Codec):
    """A text with [MASK]s, or two texts separated by [SEP] <-> what fills the masks, and whether the second text follows."""

    tokenizer: Tokenizer
    length: int

    takes = "text"

    @property
    def inputs(self) -> dict[str, tuple]:
        shape = ("b", "t")
        return {"tokens": (shape, "int32"), "token_type_ids": (shape, "int32"), "token_mask": (shape, "float32")}

    @property
    def constraints(self) -> tuple[str]:
        return (f"t <= {self.length}",)

    def encode(self, value: str) -> dict[str, np.ndarray]:
        """A text -> the inputs of one row, {name: [1, T]}. Raises UserError if it has no mark, or more than `length` tokens."""
        text = value.strip()
        if MASK not in text and SEP not in text:
            raise UserError(f"the text has no {MASK} to fill in, and no {SEP} between two texts")
        special, tokens, segments = self.tokenizer.special, [self.tokenizer.special["cls"]], [0]
        for segment, part in enumerate(text.split(SEP, 1)):
            # In tokenizers that keep spaces, a token that begins a word includes the space before it.
            pieces = [self.tokenizer.encode(piece.rstrip(" ")).tolist() for piece in part.split(MASK)]
            ids = pieces[0] + [i for piece in pieces[1:] for i in (special["mask"], *piece)]
            tokens += [*ids, special["sep"]]
            segments += [segment] * (len(ids) + 1)
        if len(tokens) > self.length:
            raise UserError(
                f"the text has {len(tokens)} tokens, more than the {self.length} of data.length; shorten it"
            )
        row = {"tokens": np.array([tokens], np.int32), "token_type_ids": np.array([segments], np.int32)}
        return {**row, "token_mask": np.ones(row["tokens"].shape, np.float32)}

    def decode(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """{"mlm": f32[1, T, V], "nsp": f32[1, 2]} and the inputs -> "masks", the top five tokens of each [MASK]; of two texts
        "follows", the probability that the second follows.
        """
        masks = np.flatnonzero(outputs["tokens"][0] == self.tokenizer.special["mask"])
        result: dict[str, Any] = {"masks": [top_pieces(outputs["mlm"][0, at], self.tokenizer) for at in masks]}
        if outputs["token_type_ids"][0].any():
            result["follows"] = top.of_logits(outputs["nsp"][0], str)["0"]
        return result

    def read(self, file: Path) -> str:
        return user_files.read(file)


def load(cfg: Mapping[str, Any], seed: int) -> BertPretraining:
    """The data set of a config's `data` group: masked segment pairs of its corpus."""
    corpus = corpora.load(cfg)
    tokenizer = language_modelling.make_tokenizer(cfg, corpus, ("pad", "cls", "sep", "mask"))
    documents = {part: masked.documents(getattr(corpus, part), tokenizer, corpus.marks) for part in ("train", "valid")}
    sizes = ", ".join(f"{len(d):,} documents of {len(d.tokens):,} tokens in {part}" for part, d in documents.items())
    report = [*corpus.report, f"tokens   {cfg['tokenizer']}, vocabulary {tokenizer.size:,}: {sizes}"]
    return BertPretraining(documents, tokenizer, report, cfg, seed)


def top_pieces(logits: np.ndarray, tokenizer: Tokenizer) -> dict[str, float]:
    """f32[V] -> the top five tokens with their probabilities."""
    return top.of_logits(logits, lambda i: tokenizer.decode(np.array([i])))
