"""The sentiment of each word of the Stanford Sentiment Treebank, five classes, by a BERT-Tiny from scratch.

No published number is known to us. From a pre-trained encoder:
    almanac train token_labelling/sst_words --init-from RUN --config.pretrained.fresh=^head/ --config.pretrained.resize=position

Cost        4 minutes on one CPU core; 4.4 M parameters
Run         almanac train token_labelling/sst_words
"""

from experiments.token_labelling.configs.base import base


def get_config():
    return base(
        data=dict(source="sst_words", tokenizer="wordpiece", vocab_size=None, length=66),
        model=dict(num_layers=2, num_heads=2, width=128),
        optim=dict(peak_lr=1e-3, schedule="linear", warmup="100 steps", weight_decay=0.01, clip_norm=1.0),
        num_steps="4 epochs",
        eval_every="1 epoch",
        save_every="1 epoch",
    )
