"""An R(2+1)D network that tells eight motions of a digit, none of which shows in a single frame.

Cost        a few minutes on 2 CPU cores; 0.01 M parameters
Run         almanac train video/digits_motion
"""

from experiments.video.configs.base import base


def get_config():
    return base(
        model=dict(widths=(8, 16), stem_stride=2),
        optim=dict(peak_lr=5e-3, warmup="20 steps"),
        num_steps="10 epochs",
        log_every=50,
        eval_every="5 epochs",
        save_every="5 epochs",
    )
