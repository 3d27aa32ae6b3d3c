"""A BiLSTM with attention on TweetEval's emotions: anger, joy, optimism or sadness. Chosen by macro F1 on validation.

Reproduces  Barbieri et al. 2020, TweetEval (2010.12421), their README, emotion, LSTM: test macro F1 66.0
Cost        1 minute a seed on one CPU core (estimate); 1.0 M parameters
Run         almanac reproduce text_classification/emotion_lstm

A class weighs as much as another in the loss, whatever the number of its tweets. The vectors begin at
random; whether theirs did was not checked.
"""

from experiments.text_classification.configs.base import base


def recipe(value: float, low: float, high: float, row: str, cost: str, **changes):
    return base(
        **changes,
        class_weights="balanced",
        macro_f1=True,
        best=dict(metric="valid/macro_f1", mode="max"),
        reproduces=dict(
            paper="Barbieri et al. 2020", table=f"their README, emotion, {row}", metric="test/macro_f1",
            select="max:valid/macro_f1", value=value, low=low, high=high, seeds=5, cost=f"{cost} a seed, one CPU core",
        ),
    )  # fmt: skip


def get_config():
    return recipe(
        0.660, 0.635, 0.685, "LSTM", "1 min",
        data=dict(
            source="tweeteval_emotion", normalise="joulin", length=64, buckets=3, batch_size=32, eval_batch_size=200
        ),
        model=dict(name="recurrent", width=100, hidden=64, embedding_scale=0.25, dropout=0.5),
        optim=dict(peak_lr=2e-3, warmup="1 epoch", clip_norm=1.0),
        num_steps="15 epochs",
        log_every=20,
    )  # fmt: skip
