"""BERT's pre-training: a corpus as masked pairs of segments in batches, and texts with [MASK]s to fill in.

Config: what the corpus is made of (`corpora`), tokenizer with its options; length (tokens of a pair, T), short, mask_rate,
predictions and whole_word (`masked`), batch_size, eval_batch_size.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from research.core.experiment import Baseline, Dataset
from research.data import top, user_files
from research.data.pipeline import EvalBatches, TrainBatches
from research.data.text import corpora, language_modelling, masked
from research.data.tokenizers import Tokenizer
from research.util.errors import UserError

MASK, SEP = "[MASK]", "[SEP]"  # in a text to fill in


class BertPretraining(Dataset):
    """Batches of `masked.Masked` pairs of segments; those of "valid" are the same for every seed."""

    def __init__(
        self, documents: Mapping[str, masked.Documents], tokenizer: Tokenizer, report: list[str], cfg: Any, seed: int
    ):
        self._documents, self.tokenizer, self.tokenizers = documents, tokenizer, (tokenizer,)
        self.length = cfg["length"]
        sources = {}
        for part, drawn in (("train", seed), ("valid", None)):
            pairs = masked.SegmentPairs(documents[part], self.length, tokenizer, drawn, cfg["short"])
            options = (cfg["mask_rate"], cfg["predictions"], cfg["whole_word"])
            sources[part] = masked.Masked(pairs, tokenizer, drawn, *options)
        self.train = TrainBatches(sources["train"], cfg["batch_size"], seed)
        self.evals = {"valid": EvalBatches(sources["valid"], cfg["eval_batch_size"])}
        counts = ", ".join(f"{len(source):,} to {part}" for part, source in sources.items())
        self.report = [*report, f"pairs    {counts}; {sources['train'].predictions} masked tokens at most in one"]
        whole = ("b", "t")
        self.inputs = {"tokens": (whole, "int32"), "segments": (whole, "int32"), "token_mask": (whole, "float32")}
        self.limits = (f"t <= {self.length}",)

    def baselines(self) -> Mapping[str, Baseline]:
        train, valid = (self._documents[part].tokens for part in ("train", "valid"))
        unigram = language_modelling.baselines(train, valid, self.tokenizer.size)["unigram"]
        return {"valid/mlm_loss": Baseline({"unigram": unigram}, "nats/token")}

    def encode(self, value: str) -> dict[str, np.ndarray]:
        """A text with [MASK]s, or two texts with a [SEP] between -> i32[1, T], and f32[1, T] for "token_mask"."""
        return encode(value, self.tokenizer, self.length)

    def decode(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """-> for each [MASK] the top five pieces; for two texts the probability that the second follows the first."""
        return decode(outputs, self.tokenizer)

    def read(self, file: Path) -> str:
        return user_files.read(file)


def load(cfg: Mapping[str, Any], seed: int) -> BertPretraining:
    """The corpus that a config's `data` group names, in masked pairs."""
    corpus = corpora.load(cfg)
    tokenizer = language_modelling.make_tokenizer(cfg, corpus)
    documents = {part: masked.documents(getattr(corpus, part), tokenizer, corpus.marks) for part in ("train", "valid")}
    sizes = ", ".join(f"{len(d):,} documents of {len(d.tokens):,} tokens in {part}" for part, d in documents.items())
    report = [*corpus.report, f"tokens   {cfg['tokenizer']}, vocabulary {tokenizer.size:,}: {sizes}"]
    return BertPretraining(documents, tokenizer, report, cfg, seed)


def encode(value: str, tokenizer: Tokenizer, length: int) -> dict[str, np.ndarray]:
    """As `BertPretraining.encode`. Raises UserError for a text with neither mark, and one of more than `length` tokens."""
    text = value.strip()
    if MASK not in text and SEP not in text:
        raise UserError(f"the text has no {MASK} to fill in, and no {SEP} between two texts")
    special, tokens, segments = tokenizer.special, [tokenizer.special["cls"]], [0]
    for segment, part in enumerate(text.split(SEP, 1)):
        # A piece that begins a word has the space before it, where pieces have spaces at all.
        pieces = [tokenizer.encode(piece.rstrip(" ")).tolist() for piece in part.split(MASK)]
        ids = pieces[0] + [i for piece in pieces[1:] for i in (special["mask"], *piece)]
        tokens += [*ids, special["sep"]]
        segments += [segment] * (len(ids) + 1)
    if len(tokens) > length:
        raise UserError(f"the text has {len(tokens)} tokens, more than the {length} of data.length; shorten it")
    row = {"tokens": np.array([tokens], np.int32), "segments": np.array([segments], np.int32)}
    return {**row, "token_mask": np.ones(row["tokens"].shape, np.float32)}


def decode(outputs: Mapping[str, Any], tokenizer: Tokenizer) -> dict[str, Any]:
    """As `BertPretraining.decode`, of {"mlm": f32[1, T, V], "nsp": f32[1, 2], "tokens", "segments": i32[1, T]}."""
    masks = np.flatnonzero(outputs["tokens"][0] == tokenizer.special["mask"])
    filled: dict[str, Any] = {"masks": [top_pieces(outputs["mlm"][0, at], tokenizer) for at in masks]}
    if outputs["segments"][0].any():
        filled["follows"] = top.of_logits(outputs["nsp"][0], str)["0"]
    return filled


def top_pieces(logits: np.ndarray, tokenizer: Tokenizer) -> dict[str, float]:
    """f32[V] -> the top five pieces with their probabilities."""
    return top.of_logits(logits, lambda i: tokenizer.decode(np.array([i])))
