"""Parts of speech in the People's Daily: pieces of words, a BiLSTM, and a CRF over the corpus' main tags.

No published number is known to us for this copy and split.

Cost        about 6 minutes on 2 CPU cores that others use, too; 1.3 M parameters
Run         almanac train token_labelling/pos_bilstm_crf
"""

from experiments.token_labelling.configs.base import base


def get_config():
    return base(
        data=dict(
            source="peoples_daily_pos",
            tokenizer="bpe",
            vocab_size=8_000,
            length=64,
            batch_size=64,
            eval_batch_size=256,
        ),
        model=dict(name="bilstm", crf=True),
        optim=dict(peak_lr=5e-3, schedule="linear", warmup="50 steps", clip_norm=1.0),
        num_steps="1 epoch",
        log_every=50,
        eval_every="1 epoch",
        save_every="1 epoch",
        best=dict(metric="valid/accuracy"),
    )
