"""A BiLSTM with attention on TREC's questions: six coarse classes (data.labels=fine: fifty).

Cost        68 seconds on one CPU core; 0.97 M parameters
Run         almanac train text_classification/trec_bilstm
"""

from experiments.text_classification.configs.base import base


def get_config():
    return base(
        data=dict(source="trec", labels="coarse", normalise="kim", length=40, buckets=2, batch_size=32),
        model=dict(name="recurrent", width=100, hidden=100, embedding_scale=0.25, dropout=0.5),
        optim=dict(peak_lr=2e-3, warmup="1 epoch", clip_norm=1.0),
        num_steps="15 epochs",
    )
