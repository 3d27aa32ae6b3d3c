"""BLEU (Papineni et al. 2002) by sacreBLEU (Post 2018, 1804.08771), always with what it was computed by."""

from collections.abc import Sequence
from typing import NamedTuple

from sacrebleu.metrics import BLEU

from research.evals.lines import check_pairs


class Bleu(NamedTuple):
    """`value` in 0..100; n-gram precisions in 0..100; `signature` as sacreBLEU writes it."""

    value: float
    precisions: tuple[float, ...]
    brevity: float  # the brevity penalty, 0..1
    words: int  # of the hypotheses
    reference_words: int
    signature: str


def bleu(hypotheses: Sequence[str], references: Sequence[str], tokenize: str = "none", lowercase: bool = False) -> Bleu:
    """Of a corpus, one reference a line.

    tokenize="none" takes what spaces part: for text that is tokenised already (fairseq's and multi-bleu's BLEU4).
    "13a" is for text as it is written (mteval-v13a). UserError where the counts differ, or there is no line.
    """
    check_pairs("BLEU", hypotheses, references)
    metric = BLEU(tokenize=tokenize, lowercase=lowercase, force=True)  # tokenised text is told so by its caller
    score = metric.corpus_score(list(hypotheses), [list(references)])
    return Bleu(
        score.score, tuple(score.precisions), score.bp, score.sys_len, score.ref_len, str(metric.get_signature())
    )
