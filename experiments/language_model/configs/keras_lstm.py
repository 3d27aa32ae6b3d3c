"""Two layers of 64 LSTM units over an embedding of 64, as Keras's examples stack them, on Python's language reference.

Cost        about 2 minutes on 2 CPU cores; 0.08 M parameters
Run         almanac train language_model/keras_lstm

Dropout and recurrent dropout are 0.2, one mask a sequence, as `keras.layers.LSTM(64, dropout=0.2, recurrent_dropout=0.2)`
draws them; the forget gates' biases start at 1, the recurrent matrices orthogonal.
"""

from experiments.language_model.configs.base import base


def get_config():
    return base(
        data=dict(source="pydoc", tokenizer="char", length=64, batch_size=32),
        model=dict(
            name="lstm", num_layers=2, width=64, embedding_width=64, tied=False,
            input_dropout=0.2, recurrent_dropout=0.2, forget_bias=1.0,
        ),
        optim=dict(name="adam", peak_lr=3e-3, end_lr=3e-4, clip_norm=1.0),
        num_steps=2_000,
    )  # fmt: skip
