"""BLEU (Papineni et al. 2002) by sacreBLEU (Post 2018, 1804.08771), with its signature."""

from collections.abc import Sequence
from typing import NamedTuple

from sacrebleu.metrics import BLEU

from research.evals.exact_match import check_pairs


class Bleu(NamedTuple):
    """`value` in 0..100; n-gram precisions in 0..100; `signature` as sacreBLEU writes it."""

    value: float
    precisions: tuple[float, ...]
    brevity: float  # the brevity penalty, 0..1
    words: int  # of the hypotheses
    reference_words: int
    signature: str


def bleu(hypotheses: Sequence[str], references: Sequence[str], tokenize: str = "none", lowercase: bool = False) -> Bleu:
    """Corpus BLEU with one reference for each hypothesis.

    tokenize="none" splits at spaces: for tokenised text (fairseq's and multi-bleu's BLEU4). "13a" is for raw text
    (mteval-v13a). Raises UserError if the counts differ or there are no lines.

    >>> round(bleu(["a b c d e"], ["a b c d e f"]).value, 2)  # all precisions 100, brevity exp(1 - 6 / 5)
    81.87
    """
    check_pairs("BLEU", hypotheses, references)
    metric = BLEU(tokenize=tokenize, lowercase=lowercase, force=True)  # force: no warning about tokenised text
    score = metric.corpus_score(list(hypotheses), [list(references)])
    return Bleu(
        score.score, tuple(score.precisions), score.bp, score.sys_len, score.ref_len, str(metric.get_signature())
    )
