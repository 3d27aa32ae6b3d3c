"""Labelled texts: sources, splits, folds, encoding, the user's own files."""

import json

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.naive_bayes import MultinomialNB

from research.data import tokenizers
from research.data.builders import sst_trees
from research.data.text import classification, labelled_corpora, normalise
from research.util.errors import UserError
from tests.data.feedback_writer import write

KEYS = dict(
    source="pydoc", path=None, text_key=None, label_key=None, phrases=None, labels=None, valid_fraction=None,
    test_fraction=None, folds=0, fold=0, normalise="none", tokenizer="word", vocab_size=None, min_count=None,
    special=None, length=32, keep="head", pad=None, buckets=0, batch_size=16, eval_batch_size=16,
)  # fmt: skip


def load(**changes):
    return classification.load({**KEYS, **changes}, seed=0)


def sources(data):
    """{part: its texts in tokens}, train first."""
    return {"train": data.train.source} | {split: batches.source for split, batches in data.evals.items()}


def texts_of(part, data):
    return [data.encoder.tokenizer.decode(part.row(i)) for i in range(len(part))]


def write_table(path, n=60, separator=","):
    rows = [f"the {i}th text is {'good' if i % 3 else 'bad'}{separator}{'yes' if i % 3 else 'no'}" for i in range(n)]
    path.write_text("\n".join([f"text{separator}label", *rows]) + "\n")
    return path


# Embedded


def test_pydoc_needs_nothing():
    data = load(normalise="joulin", length=2000)
    parts = sources(data)
    assert list(parts) == ["train", "valid", "test"]
    assert len(data.classes) == 6 and len(parts["train"]) > 800
    assert len(parts["valid"]) == pytest.approx(len(parts["test"]), abs=6) and len(parts["test"]) > 100
    train, valid, test = (set(texts_of(part, data)) for part in parts.values())
    assert not train & test and not train & valid and not valid & test
    values, _ = data.baselines()["valid/accuracy"]
    assert values["naive Bayes"] > values["most frequent class"] + 0.2


def test_every_topic_belongs_to_one_chapter():
    names = " ".join(labelled_corpora.CHAPTERS.values()).split()
    assert len(names) == len(set(names))


def test_naive_bayes_is_scikit_learns():
    data = load(length=2000)
    parts = sources(data)
    texts = {name: texts_of(part, data) for name, part in parts.items()}
    counts = CountVectorizer(analyzer=str.split, vocabulary=list(data.encoder.tokenizer.words))
    model = MultinomialNB(alpha=1.0).fit(counts.transform(texts["train"]), parts["train"].labels)
    expected = model.score(counts.transform(texts["valid"]), parts["valid"].labels)
    assert data.baselines()["valid/accuracy"].values["naive Bayes"] == pytest.approx(expected)


def test_baselines_by_hand(tmp_path):
    """Without a validation part they are of the test part. With V tokens, P(b | x) = 2 / (3 + V), P(b | y) = 3 / (2 + V)."""
    path = tmp_path / "a.tsv"
    path.write_text(
        "text\tlabel\tsplit\na\tx\ttrain\na b\tx\ttrain\nb b\ty\ttrain\nb b b\ty\ttest\na\tx\ttest\na a\ty\ttest\n"
    )
    data = load(source="files", path=str(path), valid_fraction=0.0)
    assert list(data.evals) == ["test"]
    ((metric, (values, unit)),) = data.baselines().items()
    assert (metric, unit) == ("test/accuracy", "")
    assert values == pytest.approx({"most frequent class": 1 / 3, "naive Bayes": 2 / 3})


# Published corpora


def test_phrases_of_a_tree():
    tree = "(4 (2 The) (3 (3 (2 good) (1 (2 -LRB-) (2 bad))) (2 film\\/play)))"
    assert sst_trees.phrases(tree) == [
        ("The", 2), ("good", 2), ("(", 2), ("bad", 2), ("( bad", 1), ("good ( bad", 3), ("film/play", 2),
        ("good ( bad film/play", 3), ("The good ( bad film/play", 4),
    ]  # fmt: skip
    for wrong in ("", "(2 a", "2 a)", "(a b)", "((2 a))"):
        with pytest.raises(UserError, match="no bracketed sentence"):
            sst_trees.phrases(wrong)


@pytest.mark.data
def test_sst2_has_the_published_sizes(tmp_path, monkeypatch):
    """Socher et al. 2013: 6,920 / 872 / 1,821 sentences that are not neutral."""
    monkeypatch.setenv("ALMANAC_DATA", str(tmp_path))
    data = load(source="sst2", length=64)
    parts = sources(data)
    assert [len(part) for part in parts.values()] == [6920, 872, 1821]
    assert np.bincount(parts["test"].labels).tolist() == [912, 909] and data.classes == ("negative", "positive")
    phrases = sources(load(source="sst2", phrases=True, normalise="kim", length=64))
    assert len(phrases["train"]) == 77_625  # Kim's list has 76,961
    assert [len(phrases[name]) for name in ("valid", "test")] == [872, 1821]
    with pytest.raises(UserError, match="data.phrases with data.folds"):
        load(source="sst2", phrases=True, folds=3)


@pytest.mark.data
def test_trec_has_the_published_sizes_and_classes(tmp_path, monkeypatch):
    """Li and Roth 2002: 5,452 / 500 questions, 6 and 50 classes."""
    monkeypatch.setenv("ALMANAC_DATA", str(tmp_path))
    data = load(source="trec")
    sizes = {name: len(part) for name, part in sources(data).items()}
    assert sizes["train"] + sizes["valid"] == 5452 and sizes["test"] == 500
    assert data.classes == ("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM")
    assert len(load(source="trec", labels="fine").classes) == 50
    with pytest.raises(UserError, match="data.labels = 'middle'"):
        load(source="trec", labels="middle")


@pytest.mark.data
def test_tweeteval_emotion_has_the_published_sizes(tmp_path, monkeypatch):
    """Barbieri et al. 2020, Table 1: 3,257 / 374 / 1,421; the labels' counts are those of the upstream files."""
    monkeypatch.setenv("ALMANAC_DATA", str(tmp_path))
    data = load(source="tweeteval_emotion")
    parts = sources(data)
    assert [len(part) for part in parts.values()] == [3257, 374, 1421]
    assert data.classes == ("anger", "joy", "optimism", "sadness")
    assert np.bincount(parts["train"].labels).tolist() == [1400, 708, 294, 855]
    assert np.bincount(parts["test"].labels).tolist() == [558, 358, 123, 382]


@pytest.mark.data
def test_chinese_reviews_have_no_text_in_two_parts(tmp_path, monkeypatch):
    monkeypatch.setenv("ALMANAC_DATA", str(tmp_path))
    data = load(source="chinese_reviews", tokenizer="char", min_count=1, length=4096)
    parts = sources(data)
    assert {name: len(part) for name, part in parts.items()} == {"train": 13857, "valid": 1732, "test": 1732}
    texts = [{"".join(filter(str.isalnum, text)) for text in texts_of(part, data)} for part in parts.values()]
    assert len(set.union(*texts)) == sum(map(len, texts)) == 17321
    assert not any("warning" in line or "repeated" in line for line in data.report)
    said = (
        "17,321 of 35,124 lines; left out are 17,538 that repeat another or are empty, and 265 that are of both classes"
    )
    assert any(said in line for line in data.report)


def test_chinese_reviews_say_how_to_have_them(tmp_path, monkeypatch):
    monkeypatch.delenv("ALMANAC_MIRROR", raising=False)
    monkeypatch.setenv("ALMANAC_OFFLINE", "1")
    monkeypatch.setenv("ALMANAC_DATA", str(tmp_path))
    with pytest.raises(UserError, match=r"no copy of neg.txt .* set ALMANAC_MIRROR .* or put it into"):
        load(source="chinese_reviews")


def test_four_titles():
    """Three to train on, and the last of the four to validate on, as Keras' validation_split=.2 cuts them."""
    parts = sources(load(source="chinese_titles", tokenizer="char", min_count=1))
    assert {name: part.labels.tolist() for name, part in parts.items()} == {"train": [0, 1, 0], "valid": [1]}


@pytest.mark.data
def test_ag_news_part_is_no_substitute(tmp_path, monkeypatch):
    monkeypatch.setenv("ALMANAC_DATA", str(tmp_path))
    monkeypatch.setenv("ALMANAC_OFFLINE", "1")
    parts = sources(load(source="ag_news_part", normalise="joulin"))
    assert len(parts["train"]) + len(parts["valid"]) == 9999 and len(parts["test"]) == 7600
    assert np.bincount(parts["test"].labels).tolist() == [1900] * 4
    with pytest.raises(UserError, match="ag_news: no copy of train.csv"):
        load(source="ag_news")


# Cleaning


@pytest.mark.parametrize(
    ("name", "text", "clean"),
    [
        ("none", " It's  a\tTest. ", "It's a Test."),
        ("kim", "It 's a so-so film , isn't it ? ( 3\u00bd )", "it 's a so so film , isn't it ? ( 3 )"),
        ("joulin", 'He\'s "fine"; (so): yes.<br />No!', "he ' s fine ( so ) yes . no !"),
        ("keras", "It's a <br />test, well-made...", "it's a br test well made"),
    ],
)
def test_cleaning(name, text, clean):
    assert normalise.make(name)(text) == clean


# Encoding


def test_tokens_and_what_is_beyond_them(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("text\tlabel\tsplit\na b c d e\tx\ttrain\nb b\ty\ttrain\nc q\tx\tvalid\n")
    for keep, left in (("head", "a b c"), ("tail", "c d e")):
        data = load(source="files", path=str(path), length=3, keep=keep)
        rows = data.train.source.gather(np.array([0, 1]))
        assert rows["length"].tolist() == [3, 2] and rows["label"].tolist() == [0, 1]
        assert [data.encoder.tokenizer.decode(rows["tokens"][0])] == [left]
        assert rows["tokens"][1].tolist()[2] == 0 and rows["tokens"].dtype == np.int32
        assert texts_of(data.evals["valid"].source, data) == ["c <unk>"]  # the vocabulary is the training texts'
    assert list(data.evals) == ["valid"] and data.classes == ("x", "y")
    ids, words = data.encoder.words("b z")
    assert words == ["b", "z"] and ids.tolist()[1] == data.encoder.tokenizer.special["unk"]
    assert data.encoder.encode("").tolist() == [data.encoder.tokenizer.special["unk"]]


def test_class_tokens_stand_around(tmp_path):
    data = load(source="files", path=str(write_table(tmp_path / "a.csv")), special=("cls", "sep"), length=5)
    first = texts_of(data.train.source, data)[0].split()
    assert first[0] == "<cls>" and first[4] == "<sep>"
    assert data.train.source.lengths.max() == 5
    with pytest.raises(UserError, match="data.length = 2: at least 3"):
        load(source="files", path=str(tmp_path / "a.csv"), special=("cls", "sep"), length=2)


def test_a_text_and_a_class(tmp_path):
    data = load(source="files", path=str(write_table(tmp_path / "a.csv")))
    (tokenizer,) = data.tokenizers
    (tmp_path / "text.txt").write_text("the good text\n")
    inputs = data.codec.encode(data.codec.read(tmp_path / "text.txt"))
    assert {name: value.dtype for name, value in inputs.items()} == {
        name: dtype for name, (_, dtype) in data.codec.inputs.items()
    }
    assert tokenizer.decode(inputs["tokens"][0]) == "the good text" and inputs["length"].tolist() == [3]
    assert data.codec.constraints == ("t <= 32",)
    said = data.codec.decode({"probabilities": np.array([[0.25, 0.75]], np.float32)})
    assert said == {"class": "yes", "probabilities": {"yes": 0.75, "no": 0.25}}
    with pytest.raises(UserError, match="the text is empty: there is nothing to classify"):
        data.codec.encode(" \n")


def test_something_is_held_out(tmp_path):
    path = str(write_table(tmp_path / "a.csv"))
    with pytest.raises(UserError, match=r"neither a validation nor a test part; set data\.valid_fraction above 0"):
        load(source="files", path=path, valid_fraction=0.0, test_fraction=0.0)


def test_batches_by_length_hold_the_same_rows():
    plain, bucketed = (load(length=120, buckets=buckets).evals["valid"] for buckets in (0, 3))

    def rows(batches):
        found = []
        for i in range(len(batches)):
            batch = batches.batch(i)
            assert len(batch["label"]) == 16
            for row in np.flatnonzero(batch["mask"]):
                n = batch["length"][row]
                found.append((*batch["tokens"][row, :n].tolist(), int(batch["label"][row])))
                assert not batch["tokens"][row, n:].any()
        return sorted(found)

    assert rows(plain) == rows(bucketed) and len(rows(plain)) == len(plain.source)
    widths = {bucketed.batch(i)["tokens"].shape[1] for i in range(len(bucketed))}
    assert len(widths) == 3 and max(widths) == 120 and {width % 8 for width in widths} == {0}


# Folds


def test_folds_are_stratified_and_each_example_is_in_one():
    rng = np.random.default_rng(0)
    texts, labels = [f"text {i}" for i in range(103)], np.sort(rng.integers(3, size=103))
    folds = classification.folds(texts, labels, 5)
    for label in range(3):
        sizes = np.bincount(folds[labels == label], minlength=5)
        assert sizes.max() - sizes.min() <= 1
    order = rng.permutation(103)  # another order of the same texts
    np.testing.assert_array_equal(classification.folds([texts[i] for i in order], labels[order], 5), folds[order])
    twice = classification.folds(texts + texts, np.r_[labels, labels], 5)
    assert np.mean(twice[:103] == twice[103:]) > 0.9  # equal texts share a fold, but where one is cut


def test_folds_of_a_source(tmp_path):
    path = str(write_table(tmp_path / "a.csv"))
    seen = []
    for fold in range(4):
        data = load(source="files", path=path, folds=4, fold=fold)
        parts = sources(data)
        assert sum(map(len, parts.values())) == 60 and 14 <= len(parts["test"]) <= 16
        assert np.bincount(parts["test"].labels).tolist() in ([5, 10], [5, 9], [5, 11])
        assert not {*texts_of(parts["train"], data)} & {*texts_of(parts["valid"], data)}
        seen += parts["test"].labels.tolist()
    assert np.bincount(seen).tolist() == [20, 40]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(source="pidoc"), "no source of labelled texts 'pidoc'; did you mean 'pydoc'?"),
        (dict(keep="middle"), "data.keep = 'middle': 'head' or 'tail'"),
        (dict(length=0), "data.length = 0: from 1"),
        (dict(length=10**9), "data.length = 1000000000: from 1"),
        (dict(normalise="kin"), "data.normalise = 'kin': there is no such normaliser; did you mean 'kim'?"),
        (dict(fold=1), "data.fold = 1 needs data.folds"),
        (dict(folds=1), "data.fold = 0, data.folds = 1: at least 2 folds"),
        (dict(folds=3, fold=3), "data.fold = 3, data.folds = 3"),
        (dict(tokenizer="char", vocab_size=9), "data.vocab_size = 9 means nothing to the tokenizer 'char'"),
        (dict(source="files"), "data.path is not set"),
        (dict(source="files", path="nowhere"), "data.path = nowhere does not exist"),
    ],
)
def test_mistakes(changes, message):
    with pytest.raises(UserError) as found:
        load(**changes)
    assert message in str(found.value) and "\n" not in str(found.value)


# The user's own files


def test_a_folder_a_class(tmp_path):
    for part, n in (("train", 6), ("test", 2)):
        for label in ("ham", "spam"):
            (tmp_path / part / label).mkdir(parents=True)
            for i in range(n):
                (tmp_path / part / label / f"{i}.txt").write_text(f"{label} number {i} of {part}")
    (tmp_path / "train" / "ham" / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "train" / "ham" / "empty.txt").write_text(" \n")
    (tmp_path / "loose.txt").write_text("in no class")
    data = load(source="files", path=str(tmp_path), valid_fraction=0.2)
    assert data.classes == ("ham", "spam")
    assert {name: len(part) for name, part in sources(data).items()} == {"train": 10, "valid": 2, "test": 4}
    report = "\n".join(data.report)
    for fact in ("latin.txt: not UTF-8 (byte 0xe9 at 3)", "empty.txt: no text", "loose.txt: not in a class folder"):
        assert fact in report


def test_a_jsonl_with_other_keys(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [{"body": f"text {i} here", "kind": i % 2} for i in range(40)]
    lines = [json.dumps(row) for row in rows] + ["{", '{"body": "a"}', '{"body": "\\ud800", "kind": 1}']
    path.write_text("\n".join(lines))
    data = load(source="files", path=str(path), text_key="body", label_key="kind")
    assert data.classes == ("0", "1") and len(data.train.source) == 32
    report = "\n".join(data.report)
    assert "line 41: not JSON" in report and "line 42: no label under 'kind'" in report and "half a surrogate" in report


def test_the_same_rows_in_a_csv_and_a_tsv(tmp_path):
    csv = load(source="files", path=str(write_table(tmp_path / "a.csv")))
    tsv = load(source="files", path=str(write_table(tmp_path / "a.tsv", separator="\t")))
    ours, theirs = ({name: texts_of(part, data) for name, part in sources(data).items()} for data in (csv, tsv))
    assert ours == theirs and list(ours) == ["train", "valid", "test"]


def test_chinese_by_character(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text(
        "text\tlabel\n" + "".join(f"{'好' * (i % 4 + 1)}书\t褒\n{'坏' * (i % 3 + 1)}书\t贬\n" for i in range(20))
    )
    data = load(source="files", path=str(path), tokenizer="char")
    assert set(data.classes) == {"褒", "贬"}
    assert set("".join(texts_of(data.train.source, data))) == set("好坏书")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "words,label\nx,y\n", "has no column 'text' but words, label"),
        ("a.csv", "", "has no column 'text' but no first line"),
        ("a.csv", "text,label\n,y\n", "no labelled text found (line 2: no text)"),
        ("a.csv", "text,label\nx,\n", "no labelled text found (line 2: no label)"),
        ("a.csv", "text,label,split\nx,y,trian\n", "split 'trian' is not train, valid or test"),
        ("a.csv", "text,label\nx,y\nz,y\n", "files: one class alone, 'y'"),
        ("a.csv", b"text,label\ncaf\xe9,y\n", "as UTF-8 text: not UTF-8 (byte 0xe9 at 14)"),
        ("a.txt", "x", "want a folder a class, or a .csv, .tsv or .jsonl"),
        ("a.csv", "text,label\n" + "x" * 1_048_577 + ",y\n", "a text of 1,048,577 characters, more than 1,048,576"),
    ],
)
def test_files_that_will_not_do(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as found:
        load(source="files", path=str(path))
    assert message in str(found.value) and "\n" not in str(found.value)


def test_padding_in_front_is_read_as_keras_has_it():
    word = tokenizers.make("word", "a b c", "")
    encoder = classification.Encoder(word, "none", length=4, keep="tail", front=True)
    assert encoder.encode("b c").tolist() == [0, 0, *word.encode("b c")]  # keras.utils.pad_sequences' default
    assert encoder.encode("a b c a b").tolist() == word.encode("b c a b").tolist()
    assert encoder.encode("").tolist() == [0, 0, 0, word.special["unk"]]
    assert encoder.words("b new")[1] == ["<pad>", "<pad>", "b", "new"]
    texts = classification.Texts([encoder.encode("b c")], np.array([1]), 4)
    assert texts.gather(np.array([0]))["length"].tolist() == [4]
    with pytest.raises(UserError, match="data.pad = 'front': this tokenizer has no <pad>"):
        classification.Encoder(tokenizers.make("char", "abc", ""), "none", length=4, keep="tail", front=True)


def test_a_set_of_feedback_is_trained_on_and_what_it_holds_out_is_a_split(tmp_path):
    train = [("debugger", "step into the frobnicator"), ("statements", "the for statement")]
    heldout = [("statements", "frobnicate the while statement")]
    folder = write(tmp_path / "set", train, heldout, ("debugger", "statements"))
    base, data = load(), load(extra=str(folder))  # `KEYS` has no such key, as configs of earlier runs
    assert len(data.training) == len(base.training) + 2 and list(data.evals) == ["valid", "test", "new"]
    # Its new words are unknown, so that a run without it can be fine-tuned.
    assert data.encoder.tokenizer.to_json() == base.encoder.tokenizer.to_json()
    new = data.evals["new"].batch(0)
    assert new["mask"].sum() == 1 and data.classes[new["label"][0]] == "statements"
    np.testing.assert_array_equal(new["tokens"][0, : new["length"][0]], base.encoder.encode(heldout[0][1]))
    last = data.training.gather(np.array([len(base.training), len(base.training) + 1]))
    assert [data.classes[label] for label in last["label"]] == ["debugger", "statements"]
    half = load(extra=str(folder), extra_share=0.5).training.labels[len(base.training) :]
    assert len(half) == len(base.training) and len(set(half[0::2])) == len(set(half[1::2])) == 1
    augmented = load(extra=str(folder), augment="swap")
    assert len(augmented.train.source) == len(augmented.training) == len(data.training)


def test_a_set_of_feedback_of_one_class_can_be_evaluated_on(tmp_path):
    folder = write(
        tmp_path / "set", [("statements", "the for statement")], [("statements", "the with statement")], ["statements"]
    )
    batches = load().eval_batches({**KEYS, "source": "feedback", "path": str(folder), "part": "test"})
    assert batches.batch(0)["label"][0] == load().classes.index("statements") and len(batches.source) == 1


def test_without_a_set_of_feedback_the_batches_stay_as_they_were():
    before, ours = load(), load(extra=None)
    for name, array in before.train.batch(3).items():
        np.testing.assert_array_equal(array, ours.train.batch(3)[name])
    assert list(ours.evals) == ["valid", "test"] and ours.report == before.report
