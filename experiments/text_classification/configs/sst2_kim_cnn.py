"""Kim's CNN with random embeddings on SST-2, trained on every phrase, chosen on the 872 sentences, tested on the 1,821.

Reproduces  Kim 2014, Convolutional Neural Networks for Sentence Classification, Table 2, CNN-rand: accuracy 82.7 %
Cost        22 minutes a seed on one CPU core; 4.9 M parameters
Run         almanac reproduce text_classification/sst2_kim_cnn

The author's code: batches of 50, Adadelta (decay 0.95), dropout 0.5, the norm of each class's weights at most 3 after every
step, the epoch that is best on the development sentences. Differs: 77,625 texts to train, where his list had 76,961, and a
word that training lacks is <unk>, where he gives each word of the test sentences a random vector.
"""

from experiments.text_classification.configs.base import base


def get_config():
    return base(
        data=dict(
            source="sst2", phrases=True, normalise="kim", length=56, buckets=4, batch_size=50, eval_batch_size=200
        ),
        model=dict(name="cnn", width=300, windows=(3, 4, 5), maps=100, dropout=0.5),
        optim=dict(name="adadelta", peak_lr=1.0, schedule="constant", b2=0.95, eps=1e-6),
        max_norm=dict(limit=3.0),
        num_steps="8 epochs",
        log_every=100,
        eval_every="0.5 epochs",
        save_every="1 epoch",
        reproduces=dict(
            paper="Kim 2014", table="Table 2, SST-2, CNN-rand", metric="test/accuracy", select="max:valid/accuracy",
            value=0.827, low=0.815, high=0.837, seeds=5, cost="22 min a seed, one CPU core",
        ),
    )  # fmt: skip
