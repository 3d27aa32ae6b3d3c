"""Captions: pixels counted by hand, sentences and what of them is true, questions recounted, and what a blind network sees."""

import itertools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments.captions import evaluation, grammar, questions, scenes, train
from experiments.captions.codec import PROMPT_LENGTH
from experiments.captions.data import ORDER, TEXT_LENGTH, Example, Examples, vocabulary
from experiments.captions.scenes import Object
from research.core import config
from research.util.errors import UserError

RED, BLUE = Object("large", "red", "circle", 10, 20), Object("small", "blue", "cross", 30, 25)
GREEN = Object("small", "green", "square", 33, 40)
SCENE = (RED, BLUE, GREEN)


def build(*changes):
    return train.build(config.load("captions/tiny", list(changes)))


def drawn(count, novel=False):
    for i in range(count):
        rng = np.random.default_rng((7, novel, i))
        yield scenes.compose(rng, scenes.draw_pairs(rng, novel))


def examples(part, count):
    source = Examples(part, count, 0, vocabulary())
    return [source.example(i) for i in range(count)]


@pytest.mark.parametrize(
    "shape, size, rows",
    [
        # Pixels of each row of a box, counted on squared paper.
        ("circle", "small", [1, 5, 5, 7, 5, 5, 1]),
        ("square", "small", [7, 7, 7, 7, 7, 7, 7]),
        ("triangle", "small", [1, 1, 3, 3, 5, 5, 7]),
        ("cross", "small", [3, 3, 7, 7, 7, 3, 3]),
        ("circle", "large", [1, 7, 9, 11, 11, 11, 13, 11, 11, 11, 9, 7, 1]),
        ("square", "large", [13] * 13),
        ("triangle", "large", [1, 1, 3, 3, 5, 5, 7, 7, 9, 9, 11, 11, 13]),
        ("cross", "large", [5, 5, 5, 5, 13, 13, 13, 13, 13, 5, 5, 5, 5]),
    ],
)
def test_shapes_have_the_pixels_that_are_counted_by_hand(shape, size, rows):
    picture = scenes.render((Object(size, "yellow", shape, 20, 30),))
    assert picture.shape == (48, 48, 3) and picture.dtype == np.uint8
    lit, r = picture.any(-1), len(rows) // 2
    assert lit.sum() == sum(rows)
    assert lit[30 - r : 31 + r].sum(1).tolist() == rows
    np.testing.assert_array_equal(lit[:, 20 - r : 21 + r], lit[:, 20 + r : (19 - r) or None : -1])  # x = 20 is the axis
    assert {tuple(pixel) for pixel in picture[lit]} == {scenes.COLOURS["yellow"]}


def test_objects_lie_apart_on_the_canvas_in_order():
    for scene in drawn(200):
        assert 2 <= len(scene) <= 4 and [o.x for o in scene] == sorted(o.x for o in scene)
        alone = [scenes.render((o,)).any(-1) for o in scene]
        assert scenes.render(scene).any(-1).sum() == sum(mask.sum() for mask in alone)
        assert not any(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any() for mask in alone)
        for a, b in itertools.combinations(scene, 2):
            assert a.pair != b.pair
            dx, dy = abs(a.x - b.x), abs(a.y - b.y)
            assert min(dx, dy) >= 3 and abs(dx - dy) >= 2


def test_a_caption_goes_from_left_to_right_along_the_axis_that_separates_more():
    assert grammar.caption(SCENE) == (
        "a large red circle left of a small blue cross above a small green square"  # dx 20, dy 5; dx 3, dy 15
    )
    assert grammar.relation(BLUE, RED) == "right of" and grammar.relation(GREEN, BLUE) == "below"


def test_a_caption_states_what_is_true_of_its_scene_and_the_text_says_all_of_the_scene():
    seen = {}
    for scene in drawn(300):
        text = grammar.caption(scene)
        assert grammar.judge(text, scene) == (1, 1)
        signature = [o[:3] for o in scene]
        assert seen.setdefault(text, signature) == signature


@pytest.mark.parametrize(
    "text, true, named",
    [
        # Another order is as true, and so is a relation along the other axis.
        ("a small green square below a small blue cross right of a large red circle", 1, 1),
        ("a large red circle above a small blue cross", 1, 2 / 3),
        ("a large red circle", 1, 1 / 3),
        # Two objects of two and a false relation; one of two objects, and no relation to what is not there.
        ("a large red circle right of a small blue cross", 2 / 3, 2 / 3),
        ("a large red circle left of a large blue cross", 1 / 3, 1 / 3),
        # An object named again counts once, and stands in no relation to itself.
        ("a large red circle left of a large red circle", 1 / 3, 1 / 3),
        ("a large red circle left of", 0, 0),
        ("large red circle", 0, 0),
        ("", 0, 0),
    ],
)
def test_statements_are_judged_by_the_scene(text, true, named):
    assert grammar.judge(text, SCENE) == pytest.approx((true, named))


def recount(scene, question):
    """The answer, from the words of a question."""
    words = question.split()
    if words[0] == "is":
        return "yes" if any([o.colour, o.shape] == words[3:] for o in scene) else "no"
    if words[0] == "how":
        names = {"circles": "circle", "squares": "square", "triangles": "triangle", "crosses": "cross"}
        value = names.get(words[2], words[2])
        return ["zero", "one", "two"][sum(value in o for o in scene)]
    (other,) = [o for o in scene if [o.colour, o.shape] == words[-2:]]
    sides = {"left": lambda o: o.x < other.x, "right": lambda o: o.x > other.x}
    sides |= {"above": lambda o: o.y < other.y, "below": lambda o: o.y > other.y}
    (target,) = filter(sides[words[5]], scene)
    return {"colour": target.colour, "shape": target.shape, "size": target.size}[words[1]]


def test_answers_are_those_of_the_scene():
    for part in ("train", "novel"):
        for row in examples(part, 400)[1::2]:
            assert row.text == recount(row.scene, row.prompt), row


def test_a_question_alone_gives_away_what_symmetry_says():
    """The object asked for is any of the 11 other pairs of training, three of each colour and shape but those of the pair named.

    So the best guess of a colour or shape is right 3 times of 11; of three counts once, of yes and no once in two, and of the
    sizes about that. Guesses are learnt from one half of the questions for the other.
    """
    rows = examples("train", 20_000)[1::2]
    best = {"colour": 3 / 11, "shape": 3 / 11, "count": 1 / 3, "exists": 1 / 2, "size": 1 / 2}
    for kind, rate in best.items():
        of_kind = [row for row in rows if row.kind == kind]
        assert len(of_kind) == 2_000
        counts = {}
        for row in of_kind[::2]:
            counts.setdefault(row.prompt, []).append(row.text)
        guesses = {prompt: max(set(texts), key=texts.count) for prompt, texts in counts.items()}
        right = np.mean([row.text == guesses.get(row.prompt) for row in of_kind[1::2]])
        assert rate - 0.05 < right < rate + 0.04, kind  # a standard error is at most 0.016


def test_pairs_that_are_held_out_are_in_novel_alone():
    for part in ("train", "valid", "test"):
        assert not {o.pair for row in examples(part, 100) for o in row.scene} & set(scenes.HELD_OUT)
    for row in examples("novel", 100):
        (novel,) = [o for o in row.scene if o.pair in scenes.HELD_OUT]
        if row.kind in ("colour", "shape", "size"):
            colour, shape = row.prompt.split()[-2:]
            assert row.text in novel or (colour, shape) == novel.pair


def test_arrays_say_what_the_example_is():
    tokenizer = vocabulary()
    source = Examples("train", 1_000, 3, tokenizer)
    batch, rows = source.gather(np.arange(1_000), 0), [source.example(i) for i in range(1_000)]
    assert batch["prompt"].shape == (1_000, PROMPT_LENGTH) and batch["targets"].shape == (1_000, TEXT_LENGTH)
    assert tokenizer.special["unk"] not in batch["prompt"] and tokenizer.special["unk"] not in batch["targets"]
    for prompt, tokens, targets, mask, row in zip(
        *(batch[name] for name in ("prompt", "tokens", "targets", "targets_mask")), rows, strict=True
    ):
        assert tokenizer.decode(prompt[prompt > 0]) == row.prompt
        assert tokenizer.decode(tokens[tokens > 0]) == f"<bos> {row.text}"
        assert tokenizer.decode(targets[mask == 1]) == f"{row.text} <eos>"
    again = Examples("train", 1_000, 3, tokenizer).gather(np.array([5]), 1)
    np.testing.assert_array_equal(again["image"][0], batch["image"][5])
    assert [row.kind for row in rows[: len(ORDER)]] == list(ORDER)


def test_greedy_search_writes_the_top_token_each_time_and_padding_is_not_read():
    e = build()
    variables = jax.jit(e.init_fn)(jax.random.key(1))
    batch = e.train.batch(0)
    found = jax.device_get(jax.jit(e.predictor.fn)(variables, batch))
    special = e.tokenizer.special
    apply = jax.jit(e.model.apply)
    tokens, total = np.full((16, TEXT_LENGTH), special["bos"]), np.zeros(16)
    banned = [special[name] for name in ("pad", "unk", "bos")]
    ended = np.zeros(16, bool)
    for t in range(TEXT_LENGTH):
        logp = np.array(jax.nn.log_softmax(apply(variables, batch["image"], batch["prompt"], tokens)[:, t]))
        logp[:, banned] = -np.inf
        if t == TEXT_LENGTH - 1:
            logp[:, np.arange(logp.shape[1]) != special["eos"]] = -np.inf
        best = logp.argmax(-1)
        total += np.where(ended, 0, logp.max(-1))
        np.testing.assert_array_equal(found["tokens"][~ended, t], best[~ended])
        ended |= best == special["eos"]
        if t + 1 < TEXT_LENGTH:
            tokens[:, t + 1] = best
    np.testing.assert_allclose(found["score"], total, rtol=1e-4)
    longer = np.pad(batch["prompt"], ((0, 0), (0, 3)))
    expected = apply(variables, batch["image"], batch["prompt"], batch["tokens"])
    np.testing.assert_allclose(apply(variables, batch["image"], longer, batch["tokens"]), expected, atol=1e-5)


@pytest.mark.parametrize("vision", [True, False])
def test_a_blind_network_sees_no_picture(vision):
    e = build(f"model.vision={vision}")
    variables = jax.jit(e.init_fn)(jax.random.key(0))
    batch = e.train.batch(0)
    apply = jax.jit(e.model.apply)
    a, b = (
        apply(variables, image, batch["prompt"], batch["tokens"]) for image in (batch["image"], batch["image"][::-1])
    )
    assert (np.abs(a - b).max() > 1e-3) == vision


def test_scores_by_hand():
    caption = grammar.caption(SCENE)
    rows = [
        Example("caption", SCENE, "describe", caption),
        Example("caption", SCENE, "describe", caption),
        *(Example(kind, SCENE, "", "one") for kind in questions.KINDS for _ in range(2)),
    ]
    answers = ["one", "one", "one", "two", "two", "two", "two", "two", "two", "two"]
    values = evaluation.score(rows, [caption, "a large red circle", *answers])
    assert values["exact"] == 0.5 and values["true"] == 1 and values["named"] == pytest.approx((1 + 1 / 3) / 2)
    assert [values[kind] for kind in questions.KINDS] == [1, 0.5, 0, 0, 0]
    assert values["answers"] == pytest.approx(0.3)
    # 15 + 4 words of 30, all n-grams right: exp(1 - 30 / 19)
    assert values["bleu"] == pytest.approx(100 * np.exp(1 - 30 / 19), rel=1e-6)


def test_an_evaluation_writes_texts_and_a_picture(tmp_path):
    """Of a network that says yes to everything."""
    data = build().data
    tokens = np.zeros(TEXT_LENGTH, np.int32)
    tokens[:2] = [*data.codec.tokenizer.encode("yes"), data.codec.tokenizer.special["eos"]]

    def write(variables, inputs):
        return {"tokens": jnp.tile(tokens, (len(inputs["prompt"]), 1))}

    evaluated = evaluation.Evaluation(write, data)(types.SimpleNamespace(variables={}), "test", tmp_path, lambda: None)
    answers = [row.text for row in map(data.parts["test"].example, range(1, 20, 2))]
    assert evaluated.values["answers"] == answers.count("yes") / 10
    assert evaluated.values["exists"] == [a for a in answers if a in ("yes", "no")].count("yes") / 2
    assert evaluated.values["exact"] == evaluated.values["true"] == 0
    for name, file in evaluated.files.items():
        file(tmp_path / name)
    text = (tmp_path / "test.txt").read_text()
    assert text.count("model      yes\n") == 20 and f"reference  {answers[0]}\n" in text
    assert Image.open(tmp_path / "test.png").width > 1_000


def test_a_picture_and_a_question_are_read_from_files(tmp_path):
    codec = build().predictor.codec
    pixels = scenes.render(SCENE)
    Image.fromarray(pixels).save(tmp_path / "scene.png")
    (tmp_path / "ask.txt").write_text("How many circles are there?\nscene.png\n", encoding="utf-8")
    described, asked = (codec.encode(codec.read(tmp_path / name)) for name in ("scene.png", "ask.txt"))
    np.testing.assert_array_equal(described["image"], asked["image"])
    np.testing.assert_array_equal(described["image"][0], pixels.astype(np.float32) / 255)
    text = [codec.tokenizer.decode(inputs["prompt"][inputs["prompt"] > 0]) for inputs in (described, asked)]
    assert text == ["describe", "how many circles are there"]


@pytest.mark.parametrize(
    "question, words",
    [
        ("is there a purple circle", "the word 'purple'"),
        ("?", "a question of 0 words"),
        ("is " * 13, "a question of 13 words: want 1 to 12"),
    ],
)
def test_a_question_outside_of_training_is_refused(question, words):
    with pytest.raises(UserError, match=words):
        build().predictor.codec.encode((question, scenes.render(SCENE)))


def test_a_question_without_a_picture_is_refused(tmp_path):
    codec, picture = build().predictor.codec, scenes.render(SCENE)
    for value in (
        "is there a red circle",
        (picture, "is there a red circle"),
        ("is", "there"),
        ("is", "there", picture),
    ):
        with pytest.raises(UserError, match="want a picture, or a question and a picture"):
            codec.encode(value)
    path = tmp_path / "ask.txt"
    path.write_text("how many circles are there\n", encoding="utf-8")
    with pytest.raises(UserError, match="in the second the path of its picture"):
        codec.read(path)


@pytest.mark.parametrize(
    "change, words",
    [
        ("data.count=9", "data.count = 9"),
        ("data.eval_count=4", "data.eval_count = 4"),
        ("model.width=4", "model.width = 4"),
    ],
)
def test_sizes_that_are_too_small_are_refused(change, words):
    with pytest.raises(UserError, match=words):
        build(change)
