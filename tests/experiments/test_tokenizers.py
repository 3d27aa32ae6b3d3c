"""Every text family reads Chinese by pieces, characters and words, with and without jieba, and says it again."""

import importlib
import json

import numpy as np
import pytest

from research.core import config
from research.data import tokenizers
from research.util.errors import UserError

SENTENCES = [
    f"{day}天气很好，我们去{place}。" for day in ("今天", "明天", "昨天") for place in ("公园", "北京", "学校", "海边")
]
LINE = SENTENCES[1]  # of 今天 and 北京


def jsonl(*rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def entities(sentence):
    labels = ["B-DAY", "I-DAY", *["O"] * (len(sentence) - 5), "B-PLACE", "I-PLACE", "O"]
    return "".join(f"{character} {label}\n" for character, label in zip(sentence, labels, strict=True))


def squad(sentence, i):
    answer = {"text": sentence[-3:-1], "answer_start": len(sentence) - 3}
    question = {"id": str(i), "question": sentence.replace(sentence[-3:-1], "哪里"), "answers": [answer]}
    return {"title": str(i), "paragraphs": [{"context": sentence, "qas": [question]}]}


TALKS = [[{"role": "user", "content": s[:7]}, {"role": "assistant", "content": s}] for s in SENTENCES]
FILES = {
    "texts.jsonl": jsonl(*({"text": s} for s in SENTENCES * 40)),
    "talks.jsonl": jsonl(*({"messages": talk} for talk in TALKS)),
    "labelled.tsv": "text\tlabel\n" + "".join(f"{s}\t{s[0]}\n" for s in SENTENCES * 2),
    "entities.conll": "\n".join(map(entities, SENTENCES)),
    "pairs.tsv": "".join(f"{s}\t{s[2:]}\n" for s in SENTENCES),
    "questions.json": json.dumps({"data": [squad(s, i) for i, s in enumerate(SENTENCES)]}, ensure_ascii=False),
    "preferred.jsonl": jsonl(*({"prompt": s, "chosen": "好的。", "rejected": "不知道。"} for s in SENTENCES)),
}


def between(data, tokens):
    """The text of a row without the special tokens of its ends."""
    (tokenizer, *_) = data.tokenizers
    ends = [tokenizer.special[name] for name in ("pad", "cls", "sep", "eos") if name in tokenizer.special]
    return tokenizer.decode(tokens[~np.isin(tokens, ends)])


def first_row(name):
    return lambda data: [(LINE, between(data, data.codec.encode(LINE)[name][0]))]


def masked(data):
    row = data.codec.encode(f"{LINE}[MASK]")["tokens"][0]
    assert row[-2] == data.tokenizer.special["mask"]
    return [(LINE, between(data, row[:-2]))]


def labelled(data):
    row = data.codec.encode(LINE)
    tags = [data.classes.index(line.split()[1]) for line in entities(LINE).splitlines()]
    labels = np.zeros(row["tokens"].shape, int)
    labels[row["starts"] == 1] = tags
    said = data.codec.decode({**row, "labels": labels, "probabilities": np.ones((*labels.shape, len(data.classes)))})
    return [(list(LINE), [word for word, *_ in said["words"]]), ([["今天", "DAY"], ["北京", "PLACE"]], said["spans"])]


def translated(data):
    tokens = np.append(data.target.encode(LINE[2:]), data.codec.eos)
    assert data.codec.decode({"tokens": [tokens]}) == {"lines": [LINE[2:]]}
    return first_row("source")(data)


def asked(data):
    """The characters of each answer that is to be found; a word of `word` and `bpe` is a clause."""
    windows = data.train.source
    found = [windows.characters(i, windows._start[i], windows._end[i]) for i in range(len(windows))]
    texts = [windows.data.passages[i][a:b] for i, (a, b) in zip(windows.question_index, found, strict=True)]
    answers = [windows.data.answers[i][0][0] for i in windows.question_index]
    if data.layout.tokenizer.name not in ("char", "jieba"):
        return [([True] * len(texts), [text.endswith(answer) for text, answer in zip(texts, answers, strict=True)])]
    rows = data.codec.encode(("哪里", LINE))
    passage = rows["passage"][0] if "passage" in rows else rows["tokens"][0, rows["token_type_ids"][0] == 1]
    return [(answers, texts), (LINE, between(data, passage))]


def searched(data):
    texts = ("今天天气很好", "我们去学校")
    rows = data.codec.encode(texts)
    return [(text, between(data, rows[name][0])) for name, text in zip(("question", "passage"), texts, strict=True)]


def preferred(data):
    batch = data.train.source.gather(np.arange(1), 0)
    n = int(batch["chosen_mask"][0].sum() + batch["prompt_length"][0])
    assert batch["chosen"][0, n - 1] == data.end != batch["chosen"][0, n - 2]
    text = data.tokenizer.decode(batch["chosen"][0, : n - 1])
    assert text.replace(" ", "")[:-3] in SENTENCES
    return [(text, data.tokenizer.decode(data.codec.encode(text)["tokens"][0]))]


QUESTIONS = "source=files path=questions.json passages=None lowercase=None"
# name -> (family, its config's changes, a data set -> (text, what came out again) of it)
FAMILIES = {
    "bert": ("bert", "source=files path=texts.jsonl", masked),
    "language_model": ("language_model", "source=files path=texts.jsonl length=32", first_row("tokens")),
    "conversations": ("language_model", "source=conversations path=talks.jsonl length=64", first_row("tokens")),
    "text_classification": (
        "text_classification", "source=files path=labelled.tsv normalise=none length=32", first_row("tokens"),
    ),
    "token_labelling": ("token_labelling", "source=conll path=entities.conll length=64", labelled),
    "translation": ("translation", "source=files path=pairs.tsv", translated),
    "bidaf": ("question_answering", QUESTIONS, asked),
    "bert_reader": (
        "question_answering", f"{QUESTIONS} question_length=30 length=96 word_length=None char_min_count=None", asked,
    ),
    "retrieval": ("retrieval", "source=files path=questions.json passages=None length=64 question_length=64", searched),
    "preference": (
        "preference", "source=files path=preferred.jsonl digits=None eval_size=None valid_fraction=0.5", preferred,
    ),
}  # fmt: skip


def build(name, tokenizer, folder):
    family, changes, _ = FAMILIES[name]
    for file, text in FILES.items():
        (folder / file).write_text(text, encoding="utf-8")
    keys = [f"data.{change}".replace("path=", f"path={folder}/") for change in changes.split()]
    keys += [f"data.tokenizer={tokenizer}", f"data.vocab_size={290 if tokenizer == 'bpe' else None}"]
    keys += ["model.name=bert"] if name == "bert_reader" else []
    return importlib.import_module(f"experiments.{family}.train").build(config.load(f"{family}/tiny", keys))


@pytest.mark.parametrize("tokenizer", ["bpe", "char", "word", "jieba"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_line_goes_in_and_comes_out(name, tokenizer, tmp_path):
    if tokenizer == "jieba":
        pytest.importorskip("jieba")
    if (name, tokenizer) == ("bidaf", "bpe"):
        with pytest.raises(
            UserError, match="data.tokenizer = 'bpe': bidaf reads words and their characters, not pieces"
        ):
            build(name, tokenizer, tmp_path)
        return
    data = build(name, tokenizer, tmp_path).data
    for text, again in FAMILIES[name][2](data):
        assert again == text
    for each in data.tokenizers:
        assert tokenizers.from_json(each.to_json()).to_json() == each.to_json()


@pytest.mark.parametrize(
    "name",
    [name for name in FAMILIES if name not in ("language_model", "conversations", "text_classification", "preference")],
)
def test_bytes_are_refused_in_one_line_where_special_tokens_are_needed(name, tmp_path):
    with pytest.raises(
        UserError, match=r"^data.tokenizer = 'byte' has no <\w+>, and its vocabulary is fixed: choose .*$"
    ):
        build(name, "byte", tmp_path)


def test_sums_have_tokens_of_their_own():
    family = importlib.import_module("experiments.preference.train")
    with pytest.raises(UserError, match="data.tokenizer = 'char': sums have tokens of their own"):
        family.build(config.load("preference/tiny", ["data.tokenizer=char"]))
