"""The contract's token labeller: seconds on a CPU.

Run         almanac train token_labelling/tiny
"""

from experiments.token_labelling.configs.base import base


def get_config():
    return base(
        data=dict(vocab_size=384, length=24, batch_size=8),
        model=dict(num_layers=2, num_heads=2, width=32),
        optim=dict(peak_lr=3e-3, warmup=2, clip_norm=1.0),
        finetune=dict(layer_decay=0.9, unfreeze_every=2),
        num_steps=12,
        log_every=4,
        eval_every=6,
        save_every=3,
    )
