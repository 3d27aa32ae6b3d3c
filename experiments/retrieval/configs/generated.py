"""A dual encoder of bags of word pieces on generated fact sheets: the quick default, nothing to download.

Generated English from a small grammar: it shows the machinery at work and compares with no published number.

Cost        about 1 minute on 2 CPU cores; 0.1 M parameters
Run         almanac train retrieval/generated
"""

from experiments.retrieval.configs.base import base


def get_config():
    return base(
        data=dict(vocab_size=600),
        optim=dict(peak_lr=1e-2, end_lr=1e-3, warmup=50),
        num_steps=1_000,
    )
