"""A small chat model: a GPT that learns the replies of generated conversations, and answers what it was told in them.

Cost        14 minutes on a busy CPU core; 0.4 M parameters
Run         almanac train language_model/dialogue
"""

from experiments.language_model.configs.base import base


def get_config():
    return base(
        data=dict(
            source="pydoc_dialogues", conversations=64_000, tokenizer="bpe", vocab_size=512, length=256, packing=True,
            batch_size=16, eval_batch_size=32,
        ),
        model=dict(num_layers=3, num_heads=4, width=96, positions="rotary"),
        optim=dict(peak_lr=3e-3, end_lr=1e-4, warmup="100 steps", weight_decay=0.1, b2=0.99, clip_norm=1.0),
        num_steps=1_500,
        log_every=50,
        eval_every=500,
        save_every=500,
        sample=dict(prompt="My order is 4721. What is my order?", length=60, temperature=0.0),
    )  # fmt: skip
