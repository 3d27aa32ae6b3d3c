"""An LSTM whose state goes from batch to batch, for the tests: seconds on a CPU.

Run         almanac train language_model/tiny_lstm
"""

from experiments.language_model.configs.base import base


def get_config():
    return base(
        data=dict(length=16, batch_size=8, eval_batch_size=8, carry=True),
        model=dict(
            name="lstm", num_layers=2, width=32, tied=False,
            embedding_dropout=0.1, input_dropout=0.1, recurrent_dropout=0.1, output_dropout=0.1,
        ),
        optim=dict(peak_lr=1e-2, warmup=2, clip_norm=1.0),
        num_steps=12,
        log_every=4,
        eval_every=6,
        save_every=3,
        sample=dict(length=40),
    )  # fmt: skip
