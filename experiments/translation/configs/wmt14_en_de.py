"""WMT14, English to German: Transformer base, ready to launch on files of your own.

Vaswani et al. 2017 (1706.03762), Table 2, report BLEU 27.3 on newstest2014: of tokenised text with compounds split, so that
sacreBLEU of the text as it is written runs lower. FOLDER holds train.en, train.de (4.5 M lines), valid.* (newstest2013) and
test.* (newstest2014). Their vocabulary of 37,000 byte pairs is learnt here from the training part; all pairs are in memory,
about 6 GB. Their average is of the last five checkpoints, ten minutes apart: here of the last five, 1,500 steps apart.

    almanac train translation/wmt14_en_de --config.data.path=FOLDER

Cost        3.3e18 FLOP (their Table 2); 12 hours on 8 P100s as they ran it; 63 M parameters
Run         almanac show translation/wmt14_en_de --config.data.path=FOLDER
"""

from experiments.translation.configs.base import base


def get_config():
    return base(
        data=dict(
            source="files", pair="en-de", path="wmt14", tokenizer="bpe", vocab_size=37_000, length=256,
            tokens=25_000, eval_tokens=16_384, buckets=12, bucket_step=8,
        ),
        model=dict(
            encoder_layers=6, decoder_layers=6, num_heads=8, width=512, mlp_width=2048, dropout=0.1
        ),
        # D^-0.5 min(s^-0.5, s 4000^-1.5), their equation 3: at its peak (512 x 4000)^-0.5.
        optim=dict(peak_lr=6.99e-4, warmup="4000 steps", eps=1e-9),
        rules="fsdp",
        dtype="bfloat16",
        num_steps=100_000,
        log_every=50,
        eval_every=1_500,
        save_every=1_500,
        keep=6,
        scores=("bleu",),
        translate=dict(beam=4, penalty="gnmt", alpha=0.6, early=False, ratio=1.0, more=50),
        average=dict(last=5),
    )  # fmt: skip
