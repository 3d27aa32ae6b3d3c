"""BLEU by hand arithmetic and by sacreBLEU's own functions; lines that do not pair."""

import math

import pytest
import sacrebleu
from rouge_score import rouge_scorer

from research.evals.bleu import bleu
from research.evals.exact_match import exact_match
from research.evals.rouge import rouge
from research.util.errors import UserError


def test_by_hand():
    """7 words of 7; 1-grams 6/7 ("a"), 2-grams 4/6, 3-grams 2/5, 4-grams 1/4; no brevity penalty."""
    found = bleu(["the cat sat on a mat ."], ["the cat sat on the mat ."])
    want = math.exp(sum(map(math.log, (6 / 7, 4 / 6, 2 / 5, 1 / 4))) / 4)
    assert found.value == pytest.approx(100 * want)
    assert found.precisions == pytest.approx([100 * p for p in (6 / 7, 4 / 6, 2 / 5, 1 / 4)])
    assert (found.words, found.reference_words, found.brevity) == (7, 7, 1.0)


def test_a_corpus_is_not_a_mean_of_lines_and_short_ones_are_punished():
    """Counts are added: 1-grams (4 + 4)/8, 2-grams (3 + 3)/6, ...; 8 words of 12: exp(1 - 12/8)."""
    found = bleu(["a b c d", "e f g h"], ["a b c d i j", "e f g h k l"])
    assert found.precisions == pytest.approx((100, 100, 100, 100))
    assert found.value == pytest.approx(100 * math.exp(1 - 12 / 8))


def test_the_signature_says_how():
    lines = ["The cat, it sat on the mat."]
    tokenised, written = bleu(lines, lines), bleu(lines, lines, "13a", lowercase=True)
    assert tokenised.signature == f"nrefs:1|case:mixed|eff:no|tok:none|smooth:exp|version:{sacrebleu.__version__}"
    assert "case:lc" in written.signature and "tok:13a" in written.signature
    assert (tokenised.words, written.words) == (7, 9)  # 13a parts "cat ," and "mat ."


def test_equals_sacrebleus_own_function():
    hypotheses = ["It is raining outside, I think.", "Nobody has seen the other shoe."]
    references = ["I think it rains outside.", "Nobody saw the other shoe, though."]
    assert bleu(hypotheses, references, "13a").value == sacrebleu.corpus_bleu(hypotheses, [references]).score


def test_rouge_by_hand():
    """police kill the gunman / police killed the gunman (Lin 2004, section 3.1): 3 of 4 words, 1 of 3 pairs, LCS 3."""
    found = rouge(["Police kill the gunman."], ["police killed the gunman"])
    assert found == pytest.approx({"rouge1": 75, "rouge2": 100 / 3, "rougeL": 75})
    found = rouge(["the gunman kill police"], ["police killed the gunman"])
    assert found == pytest.approx({"rouge1": 75, "rouge2": 100 / 3, "rougeL": 50})
    found = rouge(["a a a", ""], ["a b", "c"])  # counts are clipped: 2 x 1 / (3 + 2); nothing said is 0
    assert found == pytest.approx({"rouge1": 20, "rouge2": 0, "rougeL": 20})


def test_rouge_knows_the_words_of_other_languages():
    """A tokenizer of a to z parts "grüne" into two, and sees nothing in Greek."""
    assert rouge(["Das grüne Haus"], ["das große haus"])["rouge1"] == pytest.approx(100 * 2 / 3)
    assert rouge(["το σπίτι"], ["Το σπίτι"])["rougeL"] == pytest.approx(100)


def test_rouge_of_ascii_is_the_librarys():
    hypothesis, reference = "A company's 2nd U.S. plant_x won (AP)", "Ky. Company wins grant, the U.S. says - AP"
    scores = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"]).score(reference, hypothesis)
    assert rouge([hypothesis], [reference]) == {name: 100 * score.fmeasure for name, score in scores.items()}


def test_exact_match():
    assert exact_match(["a  b", "a", "b"], ["a b", "a", "a"]) == pytest.approx(2 / 3)


@pytest.mark.parametrize("score", [bleu, rouge, exact_match])
def test_lines_must_pair(score):
    with pytest.raises(UserError, match="2 hypotheses and 1 references; give one reference a hypothesis"):
        score(["a", "b"], ["a"])
    with pytest.raises(UserError, match="no line to score"):
        score([], [])
