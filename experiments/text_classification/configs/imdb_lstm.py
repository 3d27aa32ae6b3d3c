"""An LSTM in both directions with attention on IMDb's reviews.

Cost        15 minutes a seed on one CPU core; 1.4 M parameters
Run         almanac reproduce text_classification/imdb_lstm

What imdb_article, the source article's own program, leaves out: both directions, attention, more words (20,000) and longer texts
(the last 400 words, cleaned as Keras cleans), and an epoch that is chosen on 2,500 of the training reviews.
"""

from experiments.text_classification.configs.base import base


def get_config():
    return base(
        data=dict(
            source="imdb", normalise="keras", vocab_size=20_000, length=400, keep="tail", buckets=5, batch_size=64,
            eval_batch_size=256,
        ),
        model=dict(name="recurrent", width=64, hidden=64, pool="attention", dropout=0.2),
        optim=dict(peak_lr=1e-3, schedule="constant", clip_norm=1.0),
        num_steps="5 epochs",
        reproduces=(
            dict(
                paper="no published number; improves on imdb_article", metric="test/accuracy", select="max:valid/accuracy",
                seeds=3, cost="15 min a seed, one CPU core",
            ),
            dict(
                paper="no published number; improves on imdb_article", metric="test/loss", select="max:valid/accuracy",
                seeds=3, cost="the same runs",
            ),
        ),
    )  # fmt: skip
