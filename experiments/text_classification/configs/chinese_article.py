"""The third source article's network on real reviews: two convolutions of 128 x 5 over the last 100 of 1,000 words.

As printed but for the data: 1,000 words, a length of 100 with <pad> in front, embeddings of 64, Conv1D of 128 x 5, the maximum of
every 5, Conv1D of 128 x 5, the maximum over the text, 128 units, a softmax; Adam, batches of 32, ten epochs, a fifth for
validation, the last epoch. Keras' initial values. jieba cuts the words. Differs: a tenth is the test part, which the article
has not.

Cost        3 minutes a seed on one CPU core (estimate); 0.2 M parameters
Run         almanac reproduce text_classification/chinese_article    # pip install 'almanac[chinese]'
"""

from experiments.text_classification.configs.base import base


def program(**changes):
    """The article's program; `changes` are of the group `data`, and whole groups."""
    data = dict(tokenizer="jieba", vocab_size=1_000, length=100, keep="tail", pad="front", **changes.pop("data"))
    return base(
        **changes,
        data=data,
        model=dict(name="conv", width=64, num_layers=2, window=5, maps=128, pool=5, hidden=128),
        optim=dict(name="adam", peak_lr=1e-3, schedule="constant"),
        num_steps="10 epochs",
        best=dict(metric=None),
    )


def get_config():
    return program(
        data=dict(source="chinese_reviews", batch_size=32, eval_batch_size=500, valid_fraction=0.2),
        reproduces=dict(
            paper="no published number; source articles, 3, part 5, on reviews", metric="test/accuracy", select="last",
            seeds=5, cost="3 min a seed, one CPU core",
        ),
    )  # fmt: skip
