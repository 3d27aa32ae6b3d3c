"""The data set of readers: windows to train and to evaluate on, and the way between a question and a span."""

import math

import numpy as np
import pytest

from experiments.question_answering.codec import AnswerSpan
from research.data.text import question_answering, questions
from research.util.errors import UserError

CFG = dict(
    tokenizer="word", vocab_size=None, min_count=None, lowercase=None, char_min_count=1, length=3, question_length=2,
    word_length=2, stride=2, negatives=0.0, batch_size=2, eval_batch_size=2,
)  # fmt: skip
# Windows of 3 words begin at 0 and 2; the answer of "q0" is whole in the second alone.
LONG = ("t", "w0 w1 w2 w3 w4", "q0", "Which two?", [("w3 w4", 9)])
SHORT = ("t", "aa bb", "q1", "What?", [("bb", 3)])


def dataset(no_answer=False, test=None, **changes):
    cfg = {**CFG, **changes}
    corpus = questions.Corpus(questions.collect([LONG, SHORT]), questions.collect([LONG]), test, ["source   by hand"])
    layout = question_answering.apart(cfg, corpus.train)
    codec = AnswerSpan(layout, max_length=2)
    return question_answering.QuestionAnswering(corpus, layout, cfg, 0, no_answer=no_answer, codec=codec)


def test_windows_without_an_answer_train_only_what_can_say_so():
    data = dataset()
    assert len(data.train.source) == 2 and len(data.evals["valid"].source) == 2  # of 3 and of 2 windows
    batch = data.train.batch(0)
    assert sorted(zip(batch["start"], batch["end"], strict=True)) == [(2, 2), (2, 3)]
    assert data.report == ["source   by hand", "windows  2 of 2 questions to train; 1 hold no whole answer"]
    batch = data.evals["valid"].batch(0)
    assert (batch["start"].tolist(), batch["end"].tolist(), batch["mask"].tolist()) == ([0, 2], [0, 3], [1, 1])
    both = dataset(no_answer=True)
    assert len(both.train.source) == 3 and both.report[1] == data.report[1].replace("  2 of", "  3 of")


def test_fields():
    data = dataset(test=questions.collect([SHORT]))
    assert list(data.evals) == ["valid", "test"] and data.baselines() == {}
    batch = data.train.batch(0)
    assert {
        name: (("b", *batch[name].shape[1:]), batch[name].dtype.name) for name in data.codec.inputs
    } == data.codec.inputs
    (tokenizer,) = data.tokenizers
    words = [tokenizer.words[i] for i in data.evals["test"].batch(0)["passage"][0]]
    assert words == ["aa", "bb", "<pad>"]


def test_negatives_want_a_model_that_can_say_so():
    with pytest.raises(UserError, match="data.negatives = 0.5 wants a model that can say so: set model.null"):
        dataset(negatives=0.5)
    assert dataset(negatives=0.5, no_answer=True).train.source is not None


def test_encode_is_the_row_of_the_batches(tmp_path):
    data = dataset()
    row, batch = data.codec.encode(("Which two?", "w2 w3 w4")), data.evals["valid"].batch(0)
    for name in data.codec.inputs:
        np.testing.assert_array_equal(row[name], batch[name][1:])
    for value in (("", "w2"), ("Which?", " \n")):
        with pytest.raises(UserError, match="want a question in the first line, and after it the passage"):
            data.codec.encode(value)
    with pytest.raises(UserError, match="4 tokens of passage are more than the 3 of a window; try `almanac ask`"):
        data.codec.encode(("Which?", "w0 w1 w2 w3"))
    (tmp_path / "a.txt").write_text("Which two?\nw2 w3\nw4\n")
    assert data.codec.read(tmp_path / "a.txt") == ("Which two?", "w2 w3\nw4")


def test_decode_gives_the_best_span_and_its_probability():
    """Softmaxes over places 0..3; 3 to 1 is no span, and 1 to 3 is longer than two places."""
    start = np.log([[0.1, 0.3, 0.2, 0.4]]).astype(np.float32)
    end = np.log([[0.1, 0.2, 0.2, 0.5]]).astype(np.float32)
    assert dataset().codec.decode({"start": start, "end": end}) == {"first": 3, "last": 3, "probability": 0.2}
    end = np.log([[0.1, 0.2, 0.6, 0.1]]).astype(np.float32)  # 0.3 * 0.6 is more than 0.2 * 0.6 and 0.4 * 0.1
    assert dataset().codec.decode({"start": start + 1, "end": end - math.pi}) == {
        "first": 1,
        "last": 2,
        "probability": 0.18,
    }


def test_layouts_are_learnt_from_the_training_part():
    train = questions.collect([LONG, SHORT])
    layout = question_answering.apart({**CFG, "vocab_size": None}, train)
    assert layout.tokenizer.encode("w4 zz").tolist()[1] == layout.tokenizer.special["unk"]
    assert layout.num_chars == len(set("w0w1w2w3w4Whichtwo?aabbWhat?")) + 2
    with pytest.raises(UserError, match="data.tokenizer = 'bpe': bidaf reads words and their characters"):
        question_answering.apart({**CFG, "tokenizer": "bpe", "vocab_size": 300}, train)
    joined = question_answering.joined(dict(tokenizer="bpe", vocab_size=300, length=12, question_length=4), train)
    assert joined.inputs["tokens"] == (("b", 12), "int32") and joined.tokenizer.special.keys() >= {"cls", "sep"}
