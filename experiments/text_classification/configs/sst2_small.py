"""Kim's CNN on 500 sentences of SST-2, each changed a little in every epoch.

Cost        1 minute a seed on one CPU core
Run         almanac train text_classification/sst2_small
Without     almanac train text_classification/sst2_small --config.data.augment=None

EDA (Wei and Zou 2019, 1901.11196), whose synonyms are WordNet's; ours are words that occur in like contexts in the 6,920
training sentences, whose classes that does not use. The 500 are other ones for each seed.
"""

from experiments.text_classification.configs.base import base


def get_config():
    return base(
        data=dict(
            source="sst2", normalise="kim", length=56, batch_size=50, eval_batch_size=200,
            train_size=500, augment=("synonyms", "insert", "swap", "delete"),
        ),
        model=dict(name="cnn", width=128, windows=(3, 4, 5), maps=100, dropout=0.5),
        optim=dict(peak_lr=1e-3, schedule="constant"),
        num_steps="40 epochs",
        log_every="4 epochs",
        eval_every="2 epochs",
        save_every="20 epochs",
    )  # fmt: skip
