"""Sums and the user's own pairs: arrays by hand, splits, bad input."""

import json

import numpy as np
import pytest

from research.data.text import preferences
from research.util.errors import UserError

KEYS = dict(
    source="arithmetic", digits=1, noise=None, eval_size=20, path=None, tokenizer=None, vocab_size=None, length=None,
    valid_fraction=None, batch_size=4, eval_batch_size=4,
)  # fmt: skip


def load(seed=0, **changes):
    return preferences.load({**KEYS, **changes}, seed)


def text(data, ids, mask=None):
    return data.tokenizer.decode(np.asarray(ids)[np.asarray(mask) > 0] if mask is not None else np.asarray(ids))


def batches(data, count=20):
    return [data.train.batch(step) for step in range(count)]


def test_sums_are_right_and_wrong_ones_are_off_by_one_or_ten():
    data = load(digits=2, eval_size=100)
    for batch in batches(data):
        for i in range(4):
            prompt = text(data, batch["prompt"][i, : batch["prompt_length"][i]])
            a, b = map(int, prompt[:-1].split("+"))
            right = text(data, batch["chosen"][i], batch["chosen_mask"][i])
            wrong = text(data, batch["rejected"][i], batch["rejected_mask"][i])
            assert right == f"{a + b}\n" and abs(int(wrong)) in {abs(a + b + d) for d in (-10, -1, 1, 10)}
            whole = text(data, batch["chosen"][i]).rstrip("\n")
            assert whole == f"{prompt}{a + b}" and text(data, batch["answer"][i]).rstrip("\n") == str(a + b)


def test_no_sum_to_validate_is_trained_on_and_all_others_are():
    data = load()
    train = {tuple(row) for row in data.train.source._numbers}
    valid = {tuple(row) for row in data.evals["valid"].source._numbers}
    assert len(train) == 80 and len(valid) == 20 and len(train | valid) == 100
    assert valid == {tuple(row) for row in load(seed=5).evals["valid"].source._numbers}


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_noise_is_the_share_of_wrong_demonstrations(noise):
    data = load(digits=2, eval_size=100, noise=noise, batch_size=512)
    demonstrations = [(b["demonstration"] != b["chosen"]).any(1) for b in batches(data, 8)]
    share = np.mean(demonstrations)
    assert share == pytest.approx(noise, abs=4 * np.sqrt(noise * (1 - noise) / 4096))
    valid = data.evals["valid"].batch(0)
    assert (valid["demonstration"] == valid["chosen"]).all()


def write(path, *rows):
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def pair(i, chosen="yes", rejected="no"):
    return {"prompt": f"Is {i} even? ", "chosen": chosen, "rejected": rejected}


def test_own_pairs(tmp_path):
    file = write(tmp_path / "pairs.jsonl", *(pair(i, "yés") for i in range(40)))
    data = load(source="files", digits=None, eval_size=None, path=str(file), valid_fraction=0.25)
    train, valid = data.train.source, data.evals["valid"].source
    assert len(train) + len(valid) == 40 and 4 <= len(valid) <= 18
    batch = train.gather(np.array([0]), 0)
    assert text(data, batch["chosen"][0], batch["chosen_mask"][0]) == "yés\0"
    assert text(data, batch["rejected"][0], batch["rejected_mask"][0]) == "no\0"
    assert batch["prompt_length"][0] == len(text(data, batch["prompt"][0]).rstrip("\0").encode())
    prompts = []
    for source in (train, valid):
        rows = source.gather(np.arange(len(source)), 0)
        prompts.append({text(data, row[:n]) for row, n in zip(rows["prompt"], rows["prompt_length"], strict=True)})
    assert not prompts[0] & prompts[1]


def test_pairs_that_are_too_long_are_left_out_and_counted(tmp_path):
    file = write(tmp_path / "pairs.jsonl", *(pair(i) for i in range(40)), *(pair(i, "y" * 50) for i in range(40, 47)))
    data = load(source="files", digits=None, eval_size=None, path=str(file), length=32)
    assert any(line == "left out 7 pairs of 32 tokens or more" for line in data.report)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"prompt": "a", "chosen": "b"}, 'line 2: want {"prompt": text, "chosen": text, "rejected": text}'),
        ({"prompt": "a", "chosen": "b", "rejected": 3}, "line 2: want"),
        ({"prompt": "", "chosen": "b", "rejected": "c"}, "line 2: want"),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "line 2: the chosen completion is the rejected one, 'b'"),
        (["a"], "line 2: want"),
    ],
)
def test_lines_that_are_no_pair(tmp_path, row, told):
    file = write(tmp_path / "pairs.jsonl", pair(0), row)
    with pytest.raises(UserError, match=told.replace("{", r"\{")):
        load(source="files", digits=None, eval_size=None, path=str(file))


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"source": "sums"}, "no source of preferences 'sums': arithmetic or files"),
        ({"digits": 4}, "data.digits = 4: 1, 2 or 3"),
        ({"noise": 1.0}, "data.noise = 1.0: at least 0 and below 1"),
        ({"eval_size": 100}, "data.eval_size = 100: from 1 to 99"),
    ],
)
def test_sums_that_cannot_be(keys, told):
    with pytest.raises(UserError, match=told):
        load(**keys)


def test_a_text_in_and_a_reward_out():
    data = load()
    inputs = data.codec.encode("1+2=")
    assert inputs["length"].tolist() == [4] and data.codec.decode({"reward": np.array([0.123456])}) == {
        "reward": 0.1235
    }
    with pytest.raises(UserError, match="the text has 0 tokens"):
        data.codec.encode("")
