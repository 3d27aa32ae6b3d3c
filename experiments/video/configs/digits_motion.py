"""An R(2+1)D network that tells eight motions of a digit, none of which shows in a single frame.

Cost        1 to 2 minutes on 2 CPU cores (estimate); 0.01 M parameters
Run         almanac train video/digits_motion
"""

from experiments.video.configs.base import base


def get_config():
    return base(
        data=dict(count=1_000),
        model=dict(widths=(8, 16), stem_stride=2),
        optim=dict(peak_lr=1e-2, warmup="20 steps"),
        num_steps="16 epochs",
        log_every=50,
        eval_every="8 epochs",
        save_every="4 epochs",
    )
