"""Triplets of Omniglot's first minimal background set: 136 characters, of which a fifth is held out to choose the step with.

No published number is known to us for embeddings of this set; the one-shot runs have some for other methods, in the README.

Cost        10 minutes a seed on 2 CPU cores (estimate); 0.12 M parameters
Run         almanac train verification/omniglot_triplet
"""

from experiments.verification.configs.base import base


def recipe(loss, source="omniglot1"):
    return base(
        data=dict(source=source, test_classes=0.0, batch_size=128, per_class=4),
        loss=loss,
        optim=dict(peak_lr=1e-3, end_lr=1e-5, schedule="cosine", warmup="50 steps"),
        shift=2,
        num_steps=2_000,
        log_every=100,
        eval_every=200,
        save_every=200,
    )


def get_config():
    return recipe(dict(name="triplet", margin=0.2))
