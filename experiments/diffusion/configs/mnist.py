"""Diffusion of MNIST with its classes, for a GPU: Ho et al.'s network at half its width, three levels.

Cost        half an hour on one H200 (estimate: it has not been run); 6.5 M parameters
Run         almanac train diffusion/mnist
"""

from experiments.diffusion.configs.base import base


def get_config(source="mnist"):
    return base(
        data=dict(source=source, batch_size=128, eval_batch_size=500),
        model=dict(channels=64, multipliers=(1, 2, 2), attention=(1,)),
        diffusion=dict(schedule="cosine", predicts="velocity"),
        sample=dict(steps=100),
        optim=dict(name="adam", peak_lr=4e-4, schedule="cosine", warmup="1 epoch", clip_norm=1.0, ema=0.9995),
        dtype="bfloat16",
        num_steps="100 epochs",
        steps_per_launch=50,
        log_every=500,
        eval_every="5 epochs",
        save_every="5 epochs",
    )
