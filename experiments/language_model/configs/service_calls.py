"""A small GPT that turns a message to a shop's service into a call, a JSON text: for `almanac helpdesk`.

Cost        21 minutes beside other work on 2 CPU cores; 0.2 M parameters
Run         almanac train language_model/service_calls
"""

from experiments.language_model.configs.base import base


def get_config():
    return base(
        data=dict(
            source="service_messages", tokenizer="bpe", vocab_size=512, length=256, packing=True, batch_size=16,
            eval_batch_size=32,
        ),
        model=dict(num_layers=3, num_heads=4, width=64, positions="rotary"),
        optim=dict(peak_lr=3e-3, end_lr=1e-4, warmup="100 steps", weight_decay=0.1, b2=0.99, clip_norm=1.0),
        num_steps=1_200,
        log_every=50,
        eval_every=400,
        save_every=400,
        sample=dict(prompt="Where is my order A-1042?", length=48, temperature=0.0),
    )  # fmt: skip
