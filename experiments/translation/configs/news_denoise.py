"""What news_copy can begin with: restores the descriptions and titles of its training part from shuffled, masked ones (BART).

Lewis et al. 2019 (1910.13461): 30 % of the tokens are masked, in spans, and the sentences are in random order. Internal.

Cost        an hour, one busy CPU core; 1.0 M parameters
Run         almanac train translation/news_denoise
            almanac train translation/news_copy --workdir runs/news_tuned --init-from runs/translation/news_denoise
"""

from experiments.translation.configs import news_copy


def get_config():
    cfg = news_copy.get_config()
    cfg.data.denoise, cfg.data.target_length = 0.3, None
    cfg.num_steps = 12_000
    cfg.scores = ()
    cfg.best.metric, cfg.best.mode = "valid/loss", "min"
    return cfg
