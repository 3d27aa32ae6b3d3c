"""A small LSTM on WikiText-2 by words, for a CPU. It has no published number.

Cost        about 50 minutes on one CPU core (estimated from 570 of its 3,728 steps); 4.6 M parameters
Run         almanac train language_model/wikitext2_lstm_cpu

Nearly all of its time goes into the softmax over 33,279 words.
"""

from experiments.language_model.configs.base import base


def get_config():
    return base(
        data=dict(source="wikitext2", tokenizer="word", length=35, batch_size=32, eval_batch_size=8, carry=True),
        model=dict(
            name="lstm", num_layers=2, width=128, tied=True, input_dropout=0.1, output_dropout=0.1, forget_bias=1.0
        ),
        optim=dict(name="adam", peak_lr=3e-3, end_lr=3e-4, warmup="100 steps", clip_norm=1.0),
        num_steps="2 epochs",
        log_every=50,
        eval_every="1 epoch",
        save_every=250,
        sample=dict(length=100, temperature=1.0),
    )
