"""Where the words of Chinese begin and end: characters of the People's Daily, a BiLSTM, and a CRF over B, M, E and S.

No published number is known to us for this copy and split.

Cost        8 minutes, one CPU core; 0.78 M parameters
Run         almanac train token_labelling/segmentation_bilstm_crf
"""

from experiments.token_labelling.configs.base import base

CHARACTERS = dict(source="peoples_daily_segmentation", tokenizer="word", vocab_size=None, min_count=2)
BILSTM, BERT = 5e-3, 1e-3  # rates


def recipe(data, model, rate, metric, epochs):
    """What the four configs of the People's Daily share."""
    return base(
        data=dict(data, length=64, batch_size=64, eval_batch_size=256),
        model=model,
        optim=dict(peak_lr=rate, schedule="linear", warmup="50 steps", clip_norm=1.0),
        num_steps=f"{epochs} epochs",
        log_every=50,
        eval_every="1 epoch",
        save_every="1 epoch",
        best=dict(metric=metric),
    )


def get_config():
    return recipe(CHARACTERS, dict(name="bilstm", width=128, crf=True), BILSTM, "valid/word_f1", epochs=6)
