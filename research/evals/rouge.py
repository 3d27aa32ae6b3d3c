"""ROUGE-1, ROUGE-2 and ROUGE-L (Lin 2004), F1 averaged over lines, by the library rouge-score.

Words are lower-cased runs of letters and digits; no stemming, no stop words. ROUGE-L takes a line as one sequence.
"""

import re
from collections.abc import Sequence

from research.evals.exact_match import check_pairs

_NAMES = ("rouge1", "rouge2", "rougeL")


def rouge(hypotheses: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """{"rouge1", "rouge2", "rougeL"} in 0..100. Raises UserError if the counts differ or there are no lines."""
    check_pairs("ROUGE", hypotheses, references)
    from rouge_score import rouge_scorer  # not at the top: it brings NLTK, which takes seconds

    scorer = rouge_scorer.RougeScorer(_NAMES, tokenizer=_Words())
    scores = [scorer.score(b, a) for a, b in zip(hypotheses, references, strict=True)]
    return {name: 100 * sum(score[name].fmeasure for score in scores) / len(scores) for name in _NAMES}


class _Words:
    """The library's own tokenizer knows the letters a to z alone: it would split "grün" into "gr" and "n"."""

    WORD = re.compile(r"[^\W_]+")

    def tokenize(self, text: str) -> list[str]:
        return self.WORD.findall(text.lower())
