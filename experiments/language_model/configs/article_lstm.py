"""The fifth source article's language model: the word after 100 others by two LSTMs of 64, on Python's language reference.

Beside      source articles, 5, part 5: validation loss 2.1840 after one epoch and 1.8896 after ten, accuracy 0.3917 and 0.4298
Cost        15 minutes a seed on one CPU core; 0.08 M parameters
Run         almanac train language_model/article_lstm

As printed: windows of 100, embeddings of 64, dropout and recurrent dropout of 0.2, a softmax over the next token alone, Adam at
1e-3, batches of 32, ten epochs, the last. Keras' own defaults: forget biases of 1, recurrent matrices orthogonal. The article
does not tell its data; a window every seven characters of this text makes 1,868 steps an epoch, where it prints 1,862.
docs/articles.md says why tokens are characters.
"""

from experiments.language_model.configs.base import base


def get_config():
    return base(
        data=dict(source="pydoc", tokenizer="char", length=100, stride=7, batch_size=32, eval_batch_size=256),
        model=dict(
            name="lstm", num_layers=2, width=64, embedding_width=64, tied=False,
            input_dropout=0.2, recurrent_dropout=0.2, forget_bias=1.0,
        ),
        optim=dict(name="adam", peak_lr=1e-3, schedule="constant"),
        num_steps="10 epochs",
        log_every="1 epoch",
        eval_every="1 epoch",
        save_every="1 epoch",
        best=dict(metric=None),
    )  # fmt: skip
