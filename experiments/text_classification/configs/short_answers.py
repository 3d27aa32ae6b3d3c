"""Short answers graded 0 to 3 by a rubric that is read with them: a small transformer on generated ones. Nothing to download.

The measure is quadratic kappa. The source has a part `unseen`, answers to questions that training lacks.

Cost        1.3 minutes a seed on one CPU core; 0.09 M parameters
Run         almanac train text_classification/short_answers --config.evals.unseen.part=unseen
"""

from experiments.text_classification.configs.base import base


def get_config():
    return base(
        data=dict(
            source="short_answers", tokenizer="word", special=("cls", "sep"), length=72, buckets=2,
            batch_size=32, eval_batch_size=200,
        ),
        model=dict(name="bert", width=64, num_layers=2, num_heads=4, mlp_width=128, dropout=0.1),
        optim=dict(peak_lr=1e-3, warmup="1 epoch", clip_norm=1.0),
        num_steps="12 epochs",
        log_every="1 epoch",
        quadratic_kappa=True,
        best=dict(metric="valid/quadratic_kappa", mode="max"),
    )  # fmt: skip
