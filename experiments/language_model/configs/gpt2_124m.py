"""GPT-2 124M, ready to launch: nanoGPT's recipe, 491,520 tokens a step, on text of your own.

nanoGPT reports a validation loss of about 2.85 on OpenWebText after 600,000 steps (README); that corpus is yours to supply:
    almanac train language_model/gpt2_124m --config.data.path=FOLDER

Cost        2e20 FLOP; four days on 8 A100s as nanoGPT ran it; 124 M parameters
Run         almanac show language_model/gpt2_124m --config.data.path=FOLDER
"""

from experiments.language_model.configs.base import base


def get_config():
    return base(
        data=dict(source="files", path="text", tokenizer="gpt2", length=1024, batch_size=480, eval_batch_size=48),
        model=dict(num_layers=12, num_heads=12, width=768, scan=True, remat=True),
        optim=dict(
            peak_lr=6e-4, end_lr=6e-5, warmup="2000 steps", weight_decay=0.1, b2=0.95, clip_norm=1.0, accumulate=4
        ),
        rules="fsdp",
        dtype="bfloat16",
        num_steps=600_000,
        log_every=50,
        eval_every=1_000,
        save_every=1_000,
    )
