"""The third source article's program on four Chinese news titles, ours in place of its own: what it shows is memorisation.

Keras' validation split of .2 of four titles is the last one; three are trained on, in one batch, so ten epochs are ten steps.
`seen` measures the three again after every epoch: the article's class for a sentence that was trained on.

Cost        seconds on one CPU core; 0.1 M parameters
Run         almanac train text_classification/titles_article    # pip install 'almanac[chinese]'
"""

from experiments.text_classification.configs.chinese_article import program


def get_config():
    return program(
        data=dict(source="chinese_titles", batch_size=3, eval_batch_size=4),
        evals=dict(seen=dict(part="train", every="1 epoch")),
        log_every=1,
    )
