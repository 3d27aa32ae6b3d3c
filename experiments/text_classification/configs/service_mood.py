"""Calm or unhappy: generated messages to a shop's service, by words and bigrams. For `almanac helpdesk`.

Cost        seconds on 2 CPU cores; 0.3 M parameters
Run         almanac train text_classification/service_mood
"""

from experiments.text_classification.configs.base import base


def get_config():
    return base(
        data=dict(source="service_messages", normalise="joulin", length=64, batch_size=32),
        model=dict(name="ngrams", width=16, order=2, buckets=4096),
        optim=dict(peak_lr=1e-2),
        num_steps=400,
        log_every=50,
        eval_every=50,
        save_every=100,
    )
