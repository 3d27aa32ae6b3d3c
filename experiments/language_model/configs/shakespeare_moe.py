"""A mixture of eight experts on Tiny Shakespeare: each character through two, as many multiplications as `shakespeare_dense`.

Cost        about 3 minutes on 2 CPU cores; 1.2 M parameters, of which a character meets 0.41 M
Run         almanac train language_model/shakespeare_moe

An expert has half the dense layer's width, so two are as wide as it; the router adds a hundredth.
"""

from experiments.language_model.configs import shakespeare_dense


def get_config():
    cfg = shakespeare_dense.get_config()
    cfg.model.update(mlp_width=256, experts=8, experts_per_token=2, balance=0.01)
    return cfg
