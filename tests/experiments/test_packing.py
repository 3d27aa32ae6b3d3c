"""The language model on packed documents: its loss is theirs, and it trains on what it was given."""

import jax
import numpy as np
import pytest

from experiments.language_model import train as family
from research.core import config
from research.data.text import packed
from research.util.errors import UserError

CHINESE = "道可道，非常道。名可名，非常名。無名天地之始；有名萬物之母。故常無欲，以觀其妙；常有欲，以觀其徼。"


def experiment(tmp_path, *overrides):
    """Eight documents to train on: six of 20 tokens and two of 34, which fill two windows of 128 targets."""
    lines = [CHINESE[i : i + 20] for i in range(6)] + [CHINESE[:34], CHINESE[10:44], CHINESE[::2], CHINESE[::3]]
    (tmp_path / "text.jsonl").write_text("".join(f'{{"text": "{line}"}}\n' for line in lines), encoding="utf-8")
    changes = ["data.source=files", f"data.path={tmp_path}", "data.packing=True", "data.length=128", *overrides]
    return family.build(config.load("language_model/tiny", ["data.valid_fraction=0.2", *changes]))


def test_the_loss_is_that_of_the_documents_one_by_one(tmp_path):
    e = experiment(tmp_path, "data.batch_size=2", "model.dropout=0.0", "model.num_layers=1")
    data, model = e.data, e.model
    params = e.init_fn(jax.random.key(0))["params"]
    loss = jax.jit(lambda batch: family.loss(model, params, {}, batch, jax.random.key(1))[1][0]["loss"])
    documents = list(packed.encode(data.text.corpus.train, data.tokenizer))
    assert [len(d) for d in documents] == [20] * 6 + [34] * 2 and e.train.epoch == 2
    alone = [loss({"tokens": d[None, :-1], "targets": d[None, 1:]}) for d in documents]
    together = loss(e.train.batch(0))
    assert float(together[1]) == sum(float(weight) for _, weight in alone) == 6 * 19 + 2 * 33
    assert float(together[0]) == pytest.approx(sum(float(total) for total, _ in alone), rel=1e-5)


def test_it_trains_and_tells_how_it_packed(tmp_path):
    e = experiment(tmp_path)
    assert [line.split(":")[0] for line in e.data.report if line.startswith("packing")] == [
        "packing  train",
        "packing  valid",
    ]
    assert set(e.train.spec) == {"tokens", "targets", "segment_ids", "position_ids", "token_mask"}
    assert e.evals["valid"].spec["segment_ids"].dtype == np.int32


@pytest.mark.parametrize("change", ["data.carry=True"])
def test_what_cannot_be_packed_is_told(tmp_path, change):
    with pytest.raises(UserError, match="data.packing = True: only a gpt"):
        experiment(tmp_path, change)
