"""fastText's bag of words and bigrams on AG News, all 120,000 training rows: ready to launch where you have them.

Reproduces  Joulin 2016, Bag of Tricks for Efficient Text Classification, Table 1, h = 10, bigrams: test accuracy 92.5 %
Cost        30 minutes a seed on 2 CPU cores (estimate); 11 M parameters
Run         almanac reproduce text_classification/ag_news_bigrams

As `classification-results.sh`: its cleaning, dimension 10, rate 0.25 falling to 0, five epochs, on all rows and with nothing
chosen. Theirs makes an update a text; here batches of 32 make one of 32 times the rate, 8. Bigrams share 2^20 places, there 10
million. Runs on the 9,999 rows of ag_news_part are no substitute: ag_news_part_bigrams.
"""

from experiments.text_classification.configs.base import base


def recipe(**changes):
    return base(
        **changes,
        model=dict(name="ngrams", width=10, order=2, buckets=1 << 20),
        optim=dict(name="sgd", peak_lr=8.0, schedule="linear"),
        num_steps="5 epochs",
    )


def get_config():
    return recipe(
        data=dict(source="ag_news", normalise="joulin", length=200, buckets=4, valid_fraction=0.0),
        best=dict(metric=None),
        reproduces=dict(
            paper="Joulin 2016", table="Table 1, AG, bigrams", metric="test/accuracy", select="last",
            value=0.925, low=0.92, high=0.93, seeds=3, cost="30 min a seed, 2 CPU cores (estimate)",
        ),
    )  # fmt: skip
