"""A small GPT on GSM8K's word problems, answered in steps; the share of right final numbers beside guesses.

Cost        30 minutes on a busy CPU core; 0.9 M parameters
Run         almanac train language_model/gsm8k
"""

from experiments.language_model.configs.base import base


def get_config():
    return base(
        data=dict(
            source="gsm8k", tokenizer="bpe", vocab_size=2_048, length=512, packing=True, batch_size=6, eval_batch_size=24
        ),
        model=dict(num_layers=3, num_heads=4, width=128, positions="rotary", dropout=0.1),
        optim=dict(peak_lr=3e-3, end_lr=1e-4, warmup="100 steps", weight_decay=0.1, b2=0.99, clip_norm=1.0),
        num_steps=1_200,
        log_every=50,
        eval_every=1_200,
        save_every=400,
        evals=dict(test=dict(every=None)),
        sample=dict(prompt="Tom has 3 apples and buys 4 more. How many apples does he have?", length=120, temperature=0.0),
    )  # fmt: skip
