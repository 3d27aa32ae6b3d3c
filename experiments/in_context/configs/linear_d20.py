"""In-context linear regression as published: 20 dimensions, 12 layers, half a million steps. Ready to launch.

Garg et al. 2022 (2208.01066), section 3: from 2 d examples on, the error is near 0, as least squares' is.

Cost        1.5e17 FLOP (an estimate: 6 x parameters x tokens); 9.5 M parameters; never run here
Run         almanac train in_context/linear_d20
"""

from experiments.in_context.configs.base import base


def get_config():
    return base(
        data=dict(dims=20, dims_start=5, points=41, points_start=11),
        model=dict(num_layers=12, num_heads=8, width=256),
        optim=dict(name="adam", peak_lr=1e-4, schedule="constant"),
        num_steps=500_000,
        log_every=1_000,
        eval_every=10_000,
        save_every=10_000,
    )
