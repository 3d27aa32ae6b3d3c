"""Commas, full stops and colons put back into Python's language reference: nothing to download.

Cost        2 minutes on 2 CPU cores; 0.2 M parameters
Run         almanac train token_labelling/punctuation
"""

from experiments.token_labelling.configs.base import base


def get_config():
    return base(
        data=dict(vocab_size=1_024),
        optim=dict(peak_lr=1e-3, schedule="linear", warmup="100 steps", weight_decay=0.01, clip_norm=1.0),
        num_steps="20 epochs",
    )
