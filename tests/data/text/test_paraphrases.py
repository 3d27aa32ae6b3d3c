"""Paraphrases from a file: read whole or refused, matched with cleaned texts, drawn as an operation of augmentation."""

import json

import numpy as np
import pytest

from research.data.text import augment, classification, normalise, paraphrases
from research.util.errors import UserError
from tests.data.text.test_classification import KEYS, write_table


def write(path, rows):
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
    return path


def row(text, *others):
    return {"text": text, "paraphrases": list(others)}


def test_texts_match_once_they_are_cleaned(tmp_path):
    """ "Good!" becomes "good"; a paraphrase that is then its text, or nothing, is none."""
    file = write(tmp_path / "p.jsonl", [row("It's Good", "its: good", "It's good", '"'), row("bad"), row("other", "x")])
    texts = ["it ' s good", "bad", "it ' s good", "new"]
    used, report = paraphrases.of_texts(file, texts, normalise.make("joulin"))
    assert used == {"it ' s good": ["its good"]}
    assert report == [
        "others   1 paraphrases of 1 training texts; 1 texts of the file are none of these",
        "without  a paraphrase: 2", "         'bad'", "         'new'",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 2: not JSON"),
        ('["a"]', "line 2: no JSON object"),
        ('{"text": "a"}', 'line 2: want {"text"'),
        ('{"text": "a", "paraphrases": ["b", 1]}', 'line 2: want {"text"'),
        ('{"text": "one", "paraphrases": []}', "line 2: the text 'one' stands above, too"),
    ],
)
def test_a_line_that_is_none(tmp_path, line, told):
    file = tmp_path / "p.jsonl"
    file.write_text(f'{{"text": "one", "paraphrases": []}}\n{line}\n')
    with pytest.raises(UserError, match="p.jsonl, ") as e:
        paraphrases.read(file)
    assert told in str(e.value)


def test_a_file_of_other_texts(tmp_path):
    file = write(tmp_path / "p.jsonl", [row("one", "two")])
    with pytest.raises(UserError, match=r"p.jsonl: no paraphrase of any of the 1 training texts is there"):
        paraphrases.of_texts(file, ["three"], str)


def test_one_of_a_texts_paraphrases_is_drawn():
    change = augment.Augment(("paraphrase",), 0.1, {}, 3, {"a text": ["first", "second"]})
    drawn = [change("a text", epoch, 0) for epoch in range(600)]
    assert [drawn.count(text) / 600 for text in ("a text", "first", "second")] == pytest.approx(
        [0.5, 0.25, 0.25], abs=0.07
    )
    assert drawn == [change("a text", epoch, 0) for epoch in range(600)]
    assert change("another text", 0, 0) == change("another text", 1, 0) == "another text"


def test_training_reads_paraphrases_and_knows_their_words(tmp_path):
    keys = {**KEYS, "source": "files", "path": str(write_table(tmp_path / "t.csv")), "train_size": 20}
    texts = classification.training_texts(keys, seed=0)
    assert len(texts) == 20
    file = write(tmp_path / "p.jsonl", [row(text, "quite another wording") for text in texts])
    data = classification.load({**keys, "augment": "paraphrase", "paraphrases": str(file)}, seed=0)
    rows = [data.train.batch(step)["tokens"] for step in range(20)]
    decoded = {data.encoder.tokenizer.decode(r[r > 1]) for tokens in rows for r in tokens}
    assert "quite another wording" in decoded and len(decoded) == 21
    np.testing.assert_array_equal(data.train.batch(7)["tokens"], rows[7])


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"augment": "paraphrase"}, "set data.paraphrases to a file"),
        ({"augment": "swap", "paraphrases": "p.jsonl"}, "data.paraphrases = p.jsonl: not read; add 'paraphrase'"),
        ({"augment": "paraphrase", "paraphrases": "no.jsonl"}, "cannot read no.jsonl"),
        ({"augment": "paraphrases"}, "no operation 'paraphrases'; did you mean 'paraphrase'"),
    ],
)
def test_paraphrases_that_cannot_be(keys, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=told):
        classification.load({**KEYS, **keys}, seed=0)
