"""Every script, from a file to a sample: Chinese, Arabic, emoji and combining marks through the language model."""

import json

import numpy as np
import pytest

from experiments.language_model import train as family
from research.core import config

CHINESE = (
    "天下皆知美之為美，斯惡已。皆知善之為善，斯不善已。故有無相生，難易相成，長短相較，高下相傾，音聲相和，前後相隨。"
    "是以聖人處無為之事，行不言之教；萬物作焉而不辭，生而不有，為而不恃，功成而弗居。夫唯弗居，是以不去。"
    "不尚賢，使民不爭；不貴難得之貨，使民不為盜；不見可欲，使民心不亂。是以聖人之治，虛其心，實其腹，弱其志，強其骨。"
    "常使民無知無欲。使夫智者不敢為也。為無為，則無不治。道沖，而用之或不盈。淵兮，似萬物之宗；挫其銳，解其紛，和其光，同其塵。"
    "天地不仁，以萬物為芻狗；聖人不仁，以百姓為芻狗。天地之間，其猶橐籥乎？虛而不屈，動而愈出。多言數窮，不如守中。\n"
)
MIXED = "السلام عليكم، كيف حالك؟ 👩‍👩‍👧‍👦🎉 e\u0301 n\u0303 क्षत्रिय ไทยภาษา 한국어 naïve\n"


@pytest.mark.parametrize(("tokenizer", "size"), [("char", None), ("bpe", 400), ("unigram", 400)])
def test_from_a_file_to_a_sample(tmp_path, tokenizer, size):
    text = CHINESE + MIXED + CHINESE
    (tmp_path / "道.txt").write_text(text, encoding="utf-8")
    changes = [
        "data.source=files", f"data.path={tmp_path}", f"data.tokenizer={tokenizer}", f"data.vocab_size={size}",
        "model.num_layers=1", "num_steps=2", "optim.warmup=1", "sample.prompt=天地", "sample.length=30",
    ]  # fmt: skip
    cfg = config.load("language_model/tiny", changes)
    e = family.build(cfg)
    data = e.data
    assert data.tokenizer.decode(np.concatenate([data.text.train, data.text.valid])) == text
    tokens = e.train.batch(0)["tokens"]
    assert tokens.max() < data.tokenizer.size and data.tokenizer.decode(tokens[0]).strip("\ufffd") in text
    family.train(cfg, tmp_path / "run")
    sample = (tmp_path / "run" / "samples" / "step_00000002_sample.txt").read_text(encoding="utf-8")
    assert sample.startswith("天地") and len(sample) > 4
    if tokenizer == "char":
        assert set(sample) <= set(text) and len(sample) == 32
    rows = [json.loads(row) for row in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert np.isfinite([row["values"]["loss"] for row in rows]).all()
    asked = e.predictor.codec.encode("聖人")
    assert data.tokenizer.decode(asked["tokens"][0]) == "聖人"
