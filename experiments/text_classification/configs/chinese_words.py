"""Chinese shop reviews, negative or positive, by words that jieba cuts: Kim's network with narrower layers.

Its twins chinese_chars and chinese_pieces read the same reviews by characters and by learnt pieces. No published number.

Cost        1 minute a seed on one CPU core (estimate); 1.2 M parameters
Run         almanac reproduce text_classification/chinese_words    # pip install 'almanac[chinese]'
"""

from experiments.text_classification.configs.base import base


def recipe(tokens: str, **data):
    return base(
        data=dict(
            source="chinese_reviews", buckets=4, batch_size=50, eval_batch_size=200, **data
        ),
        model=dict(name="cnn", width=64, windows=(2, 3, 4), maps=64, dropout=0.5),
        optim=dict(name="adam", peak_lr=1e-3, schedule="constant"),
        num_steps="5 epochs",
        reproduces=dict(
            paper=f"no published number; {tokens}", metric="test/accuracy", select="max:valid/accuracy", seeds=5,
            cost="1 min a seed, one CPU core",
        ),
    )  # fmt: skip


def get_config():
    return recipe("jieba's words", tokenizer="jieba", min_count=2, length=128)
