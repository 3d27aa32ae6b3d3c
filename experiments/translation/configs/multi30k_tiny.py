"""Multi30k, English to German: the Transformer-Tiny that Wu et al. 2021 compare multimodal translation with.

Reproduces  Wu et al. 2021, ACL (arXiv 2105.14462), README-baseline of their code: BLEU 41.02 on test2016
Cost        3 minutes a seed on one H200 (estimated), 8 h on 2 CPU cores (estimated); 2.6 M parameters
Run         almanac reproduce translation/multi30k_tiny

Theirs: the published input (tokenised, lower-cased, joint byte pairs), two GPUs of 4,096 tokens an update, at most 8,000
updates, stopped when the validation loss has not improved for 10 epochs, the mean of the last 10 epochs' checkpoints, beam 5,
fairseq's tokenised BLEU4 of lower-cased words. Ours stops by the loss without label smoothing, fairseq by that with it.
"""

from experiments.translation.configs.base import base


def get_config():
    return base(
        data=dict(
            source="multi30k_bpe", pair="en-de", length=64, tokens=9400, eval_tokens=8192, buckets=12, bucket_step=2
        ),
        model=dict(
            encoder_layers=4, decoder_layers=4, num_heads=4, width=128, mlp_width=256, dropout=0.3
        ),
        optim=dict(peak_lr=5e-3, warmup="2000 steps", clip_norm=25.0),
        num_steps=8_000,
        log_every=20,
        eval_every="1 epoch",
        save_every="1 epoch",
        keep=12,
        best=dict(metric="valid/loss", mode="min", patience="10 epochs"),
        scores=("bleu",),
        average=dict(last=10),
        reproduces=dict(
            paper="Wu 2021, Multi30k en-de, Tiny", table="README-baseline", metric="test/bleu", select="last",
            value=41.02, low=40.2, high=41.8, seeds=3, cost="3 min a seed, one H200 (estimate)",
        ),
    )  # fmt: skip
