"""German and English both ways on Multi30k, in one model that a tag tells the language: Johnson et al. 2017 (1611.04558).

Compared with two models of multi30k_one, one for each way: the same size, vocabulary, batches and rate. This one takes twice
the updates of either, so that each direction has as many pairs in both. Internal: no published number at this size.

Cost        about 8 minutes on half a CPU core; 0.6 M parameters
Run         almanac train translation/multi30k_many
            almanac sample runs/translation/multi30k_many --prompt "<2de> A dog runs."
"""

from experiments.translation.configs import multi30k_one


def get_config():
    cfg = multi30k_one.get_config()
    cfg.data.both_ways = True
    cfg.num_steps *= 2
    cfg.eval_every *= 2
    return cfg
