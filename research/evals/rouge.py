"""ROUGE-1, ROUGE-2 and ROUGE-L (Lin 2004), F1, the mean over lines.

Words are lower-cased runs of letters and digits; no stemming, no stop words. ROUGE-L is of the whole line as one sequence.
"""

import collections
import re
from collections.abc import Sequence

from research.evals.lines import check_pairs

_WORD = re.compile(r"[^\W_]+")


def rouge(hypotheses: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """{"rouge1", "rouge2", "rougeL"} in 0..100. UserError where the counts differ, or there is no line."""
    check_pairs("ROUGE", hypotheses, references)
    totals = dict.fromkeys(("rouge1", "rouge2", "rougeL"), 0.0)
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        a, b = (_WORD.findall(text.lower()) for text in (hypothesis, reference))
        for name, n in {"rouge1": 1, "rouge2": 2}.items():
            x, y = (collections.Counter(zip(*(words[i:] for i in range(n)), strict=False)) for words in (a, b))
            totals[name] += _f1((x & y).total(), x.total(), y.total())
        totals["rougeL"] += _f1(_common(a, b), len(a), len(b))
    return {name: 100 * total / len(hypotheses) for name, total in totals.items()}


def _f1(hits: int, of_hypothesis: int, of_reference: int) -> float:
    return 2 * hits / (of_hypothesis + of_reference) if hits else 0.0


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    """The length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for word in a:
        before, row = row, [0]
        for j, other in enumerate(b):
            row.append(before[j] + 1 if word == other else max(before[j + 1], row[j]))
    return row[-1]
