"""The first source article's program on IMDb's reviews: the last 100 words, one LSTM of 32 units, a sigmoid.

Reproduces  source articles, 1, part 5: test accuracy 0.8775, loss 0.3925
Cost        3 minutes a seed on one CPU core; 0.3 M parameters
Run         almanac reproduce text_classification/imdb_article

As printed: 10,000 words, the last 100 of a review with <pad> before a shorter one, embeddings of 32, the state of one LSTM at its
end, binary cross-entropy, Adam at 1e-3, batches of 32, ten epochs, the last. Keras' own defaults: forget biases of 1, embeddings
uniform in -0.05..0.05. Keras' mark of a review's beginning, which only reviews of under 100 words would keep, is left out.
"""

from experiments.text_classification.configs.base import base


def get_config():
    stated = dict(paper="source articles, 1", table="part 5, LSTM", select="last", seeds=5)
    return base(
        data=dict(
            source="imdb", normalise="keras", vocab_size=10_000, length=100, keep="tail", pad="front", batch_size=32,
            eval_batch_size=500, valid_fraction=0.0,
        ),
        model=dict(
            name="recurrent", width=32, hidden=32, bidirectional=False, pool="last", forget_bias=1.0, single_logit=True,
        ),
        optim=dict(name="adam", peak_lr=1e-3, schedule="constant"),
        num_steps="10 epochs",
        best=dict(metric=None),
        reproduces=(
            dict(stated, metric="test/accuracy", value=0.8775, low=0.8675, high=0.8875, cost="3 min a seed, one CPU core"),
            dict(stated, metric="test/loss", value=0.3925, low=0.35, high=0.43, cost="the same runs"),
        ),
    )  # fmt: skip
