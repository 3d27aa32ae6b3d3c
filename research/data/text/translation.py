"""Translation and summarization: pairs of lines in batches of tokens, and the conversion between a text and its translation.

Config, besides that of `parallel_corpora`: tokenizer with its options (vocab_size, min_count), trained on the training part;
both_ways (None): pairs of both directions, whose sources begin with a tag (see `directions`); denoise (None): in place of the
pairs their texts, to be restored after that share of their tokens was masked (see `denoising`); decoder_start (None), the id of
the token that a target begins after: by default `<bos>`, or `<pad>` of a vocabulary that has none, as Marian's; length, the
most tokens of a line, `<eos>` included; target_length (None: the same), those of a target, to which targets are padded at most;
tokens, eval_tokens, buckets, bucket_step and row_multiple, the sizes of the batches (see `buckets`). A source is
`tokens <eos>`; a target is generated after `bos` and ends in `<eos>`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from research.core.experiment import Baseline, Codec, Dataset
from research.data import codecs, tokenizers, user_files
from research.data.buckets import Bucketed, Ragged, RaggedSource, bounds
from research.data.text import directions, language_modelling, parallel_corpora
from research.data.text.denoising import Denoised
from research.data.text.line_forms import Form
from research.data.text.parallel_corpora import Corpus, Lines
from research.data.tokenizers.tagged import Tagged
from research.util.errors import UserError

OPTIONS = ("vocab_size", "min_count")
LEADS = range(2, 25, 2)  # words of the source, in the baseline of summaries
Rouge = Callable[
    [Sequence[str], Sequence[str]], Mapping[str, float]
]  # (hypotheses, references) -> {"rougeL", ...} in 0..100


class Translation(Dataset):
    """Batches {"source", "tokens", "targets": i32[B, L], a mask f32[B, L] of each, "mask": f32[B]}, of lines of similar length.

    corpus          the lines as text, in parts
    parts           {part: its tokens}: of train only the lines that fit; of the others all lines, cut to `length` tokens
    source, target  their tokenizers, one object if the vocabulary is joint
    bos             the id of the token that a target begins after
    max_length      tokens of the longest bucket
    one_way         the held-out parts whose targets are of one language: what is translated and scored
    """

    def __init__(
        self,
        corpus: Corpus,
        source: tokenizers.Tokenizer,
        target: tokenizers.Tokenizer,
        cfg: Mapping[str, Any],
        seed: int,
        rouge: Rouge | None = None,
    ):
        self.corpus, self.source, self.target, self.length = corpus, source, target, cfg["length"]
        self.tokenizers, self._rouge = (source, target), rouge
        self.bos = _start(cfg, target)
        self._target_length = _target_length(cfg)
        self.parts: dict[str, Ragged | Denoised] = {}
        self.report = [*corpus.report, _vocabularies(cfg["tokenizer"], source, target)]
        for name, lines in corpus.parts.items():
            pairs, part_report = _tokens(name, lines, source, target, self.bos, self.length, self._target_length)
            share = user_files.option(cfg, "denoise", None)
            noise = seed if name == "train" else 0  # held-out texts are the same in every run
            self.parts[name] = pairs if share is None else Denoised(pairs, source, share, noise)
            self.report += part_report
        lengths, multiple = _bucket_lengths(self.parts, cfg), cfg["row_multiple"]
        self.train = Bucketed(self.parts["train"], lengths, cfg["tokens"], seed, multiple)
        held_out = {name: part for name, part in self.parts.items() if name != "train"}
        self.evals = {k: Bucketed(v, lengths, cfg["eval_tokens"], multiple=multiple) for k, v in held_out.items()}
        self.report += self.train.report
        self.max_length = lengths[-1]
        self.one_way = [part for part in self.evals if part != "valid" or not corpus.directions]
        self.codec = TranslatedLines(source, target, self.length, self.max_length, corpus.form)

    def baselines(self) -> Mapping[str, Baseline]:
        """Unigram and bigram counts of the training targets; for summaries, also the source's first words.

        As many of them as have the best score on the validation part, of `LEADS`, by each metric; so many on the test part, too.
        """
        train, valid = (self._targets(part) for part in ("train", "valid"))
        counts = language_modelling.baselines(train, valid, self.target.size)
        baselines = {"valid/loss": Baseline(counts, "nats/token")}
        if self._rouge:
            scores = {count: self._lead("valid", count) for count in LEADS}
            for name in scores[LEADS[0]]:
                best = max(LEADS, key=lambda count: scores[count][name])
                predictor = f"the source's first {best} words"
                baselines[f"valid/{name}"] = Baseline({predictor: scores[best][name]})
                if "test" in self.evals:
                    baselines[f"test/{name}"] = Baseline({predictor: self._lead("test", best)[name]})
        return baselines

    def _targets(self, part: str) -> np.ndarray:
        """The target tokens of a part, its lines concatenated: i32[n]."""
        rows = self.parts[part].gather(np.arange(len(self.parts[part])))
        return rows["targets"][rows["targets_mask"] == 1]

    def _lead(self, part: str, count: int) -> Mapping[str, float]:
        """The scores of the first `count` words of each source: PREFIX of Rush et al. 2015 (1509.00685), which takes 75 bytes."""
        assert self._rouge
        words, lines = self.corpus.form.words, self.corpus.parts[part]
        hypotheses = [" ".join(words(line).split()[:count]) for line in lines.source]
        return self._rouge(hypotheses, [words(line) for line in lines.target])


@codecs.register("translated_lines")
@dataclasses.dataclass(frozen=True)
class TranslatedLines(Codec):
    """Lines of a text <-> their translations.

    source, target  tokenizers
    length          tokens of a source at most, `<eos>` included
    max_length      tokens of the longest array
    form            of the lines that the tokenizers read and write
    """

    source: tokenizers.Tokenizer
    target: tokenizers.Tokenizer
    length: int
    max_length: int
    form: Form

    takes, gives = "text", "text"

    @property
    def inputs(self) -> dict[str, tuple]:
        return {"source": (("b", "s"), "int32"), "source_mask": (("b", "s"), "float32")}

    @property
    def constraints(self) -> list[str]:
        return [f"s <= {self.max_length}"]

    @property
    def eos(self) -> int:
        return self.target.special["eos"]

    def encode(self, value: str) -> dict[str, np.ndarray]:
        """A text -> `encode_lines` of its lines, blank ones included. Raises UserError if all are blank."""
        lines = user_files.lines(value)
        if not any(map(str.strip, lines)):
            raise UserError("the text has no line to translate")
        return self.encode_lines([self.form.prepare(line) for line in lines])

    def encode_lines(self, lines: Sequence[str]) -> dict[str, np.ndarray]:
        """Lines in the form of the corpus's source -> {"source": i32[n, L], "source_mask": f32[n, L]}, cut to `length` tokens."""
        eos = np.int32(self.source.special["eos"])
        ids = [np.append(self.source.encode(line)[: self.length - 1], eos) for line in lines]
        return Ragged({"source": ids}).gather(np.arange(len(ids)))

    def decode(self, outputs: Mapping[str, Any]) -> dict[str, list[str]]:
        """{"tokens": i32[n, T]} -> {"lines": each line's translation as plain text}.

        Of both ways also {"asked": i32[n]}, the first token of each source: the tag.
        """
        tags = list(getattr(self.target, "ids", {}).values())
        asked = [tags.index(tag) if tag in tags else 0 for tag in outputs.get("asked", [0] * len(outputs["tokens"]))]
        rows = zip(np.asarray(outputs["tokens"]), asked, strict=True)
        return {"lines": [self.form.ways[way].restore(self.text(row)) for row, way in rows]}

    def handed_on(self, value: Any, decoded: Mapping[str, Any]) -> str:
        return "\n".join(decoded["lines"])

    def text(self, ids: np.ndarray) -> str:
        """Target tokens i32[T] up to the first `<eos>` -> words."""
        ends = np.flatnonzero(ids == self.eos)
        return self.form.words(self.target.decode(ids[: ends[0]] if len(ends) else ids))

    def read(self, file: Path) -> str:
        return user_files.read(file)


def load(cfg: Mapping[str, Any], joint: bool, seed: int, rouge: Rouge | None = None) -> Translation:
    """The data set of a config's `data` group. Raises UserError if its values are invalid.

    joint  one vocabulary, trained on both sides
    rouge  the metric of the baseline for summaries; None: the targets are no summaries
    """
    if cfg["length"] < 2:
        raise UserError(f"data.length = {cfg['length']}: at least 2, a token and the end")
    corpus = parallel_corpora.load(cfg)
    source, target = _tokenizers(cfg, corpus.parts["train"], joint)
    both, denoise = user_files.option(cfg, "both_ways", False), user_files.option(cfg, "denoise", None)
    if not isinstance(both, bool):
        raise UserError(f"data.both_ways = {both!r}: True, or None")
    if (both or denoise is not None) and not joint:
        raise UserError(
            f"data.{'both_ways' if both else 'denoise'} reads what it writes: set model.shared=True, one vocabulary"
        )
    if both and denoise is not None:
        raise UserError("data.denoise restores a text in its own language: leave data.both_ways None")
    if denoise is not None:
        texts = {part: [*lines.source, *lines.target] for part, lines in corpus.parts.items()}
        corpus = dataclasses.replace(corpus, parts={part: Lines(lines, lines) for part, lines in texts.items()})
    if both:
        corpus = directions.both(cfg, corpus)
        source = target = Tagged(target, directions.tags_of(cfg))
    return Translation(corpus, source, target, cfg, seed, rouge)


def _tokenizers(cfg: Mapping[str, Any], train: Lines, joint: bool) -> tuple[tokenizers.Tokenizer, tokenizers.Tokenizer]:
    """Those of source and target. A target without `<bos>` begins after another token: see `_start`."""
    special = ("eos",) if user_files.option(cfg, "denoise", None) is None else ("eos", "mask")
    options = {key: cfg[key] for key in OPTIONS} | {"special": special, "optional": ("bos",)}
    sides = [train.source, train.target]
    texts = ["\n".join([*train.source, *train.target])] if joint else ["\n".join(side) for side in sides]
    learnt = [tokenizers.make(cfg["tokenizer"], text, **options) for text in texts]
    return learnt[0], learnt[-1]


def _start(cfg: Mapping[str, Any], target: tokenizers.Tokenizer) -> int:
    """The id of the token that a target begins after."""
    special = target.special
    start = user_files.option(cfg, "decoder_start", special.get("bos", special.get("pad")))
    if start is None:
        raise UserError(
            f"data.tokenizer = {cfg['tokenizer']!r} has no <bos> and no <pad>; set data.decoder_start to an id"
        )
    if isinstance(start, bool) or not isinstance(start, int) or not 0 <= start < target.size:
        raise UserError(f"data.decoder_start = {start!r}: the id of a token, from 0 to {target.size - 1:,}")
    return start


def _target_length(cfg: Mapping[str, Any]) -> int | None:
    most = user_files.option(cfg, "target_length", None)
    if most is not None and not (isinstance(most, int) and 2 <= most <= cfg["length"]):
        raise UserError(f"data.target_length = {most!r}: from 2, a token and the end, to data.length = {cfg['length']}")
    return most


def _vocabularies(name: str, source: tokenizers.Tokenizer, target: tokenizers.Tokenizer) -> str:
    sizes = f"vocabularies {source.size:,}, {target.size:,}"
    return f"tokens   {name}, {f'joint vocabulary {source.size:,}' if source is target else sizes}"


def _bucket_lengths(parts: Mapping[str, RaggedSource], cfg: Mapping[str, Any]) -> list[int]:
    """Lengths for the training part, and one more if other parts have longer lines."""
    step = cfg["bucket_step"]
    lengths = bounds(parts["train"].lengths, cfg["buckets"], step)
    longest = max(int(part.lengths.max()) for part in parts.values())
    return lengths if longest <= lengths[-1] else [*lengths, -(-longest // step) * step]


def _tokens(
    part: str,
    lines: Lines,
    source: tokenizers.Tokenizer,
    target: tokenizers.Tokenizer,
    start: int,
    length: int,
    target_length: int | None,
) -> tuple[Ragged, list[str]]:
    """-> the part's tokens, and lines for the report."""
    most = target_length or length
    pairs = [(source.encode(a), target.encode(b)) for a, b in zip(lines.source, lines.target, strict=True)]
    long = sum(not _fits(pair, length, most) for pair in pairs)
    empty = sum(min(map(len, pair)) == 0 for pair in pairs)
    sizes = f"{length - 1}" if most == length else f"{length - 1} or, of a target, {most - 1}"
    if part == "train":
        pairs = [pair for pair in pairs if 0 < min(map(len, pair)) and _fits(pair, length, most)]
        if not pairs:
            raise UserError(
                f"no line of train has 1 to {length - 1} tokens on both sides; raise data.length = {length}"
            )
        report = [f"left out {long:,} lines of train longer than {sizes} tokens, {empty:,} with an empty side"]
    else:
        report = [f"cut      {long:,} lines of {part} to {sizes} tokens"]
    unknown = ""
    if (unk := target.special.get("unk")) is not None:
        share = np.mean(np.concatenate([b for _, b in pairs]) == unk)
        unknown = f", {share:.2%} of them unknown"
    count = sum(min(len(b), most - 1) + 1 for _, b in pairs)
    report += [f"{part:<8} {len(pairs):,} lines, {count:,} target tokens{unknown}"]
    source_eos, eos, bos = (np.array([i], np.int32) for i in (source.special["eos"], target.special["eos"], start))
    cut = [(a[: length - 1], b[: most - 1]) for a, b in pairs]
    sequences = {
        "source": [np.concatenate([a, source_eos]) for a, _ in cut],
        "tokens": [np.concatenate([bos, b]) for _, b in cut],
        "targets": [np.concatenate([b, eos]) for _, b in cut],
    }
    return Ragged(sequences, limits={"tokens": most, "targets": most}), report if long or empty else report[1:]


def _fits(pair: tuple[np.ndarray, np.ndarray], length: int, target_length: int) -> bool:
    """Whether source and target have room for their ends."""
    return len(pair[0]) < length and len(pair[1]) < target_length
