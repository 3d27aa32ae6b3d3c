"""The second source article's program, GPT-2 small with a classification head, on IMDb: ready to launch, never trained here.

Adam and three epochs as printed. The article names no data and no rate: IMDb's reviews and 2e-5 are ours, as are batches of 8
and the first 512 pieces of a review. The published weights are yours to supply, GPT-2's as safetensors in FOLDER:
    almanac train text_classification/article2_gpt2 --init-from FOLDER --config.pretrained.into=gpt \\
        --config.pretrained.fresh=^head/ --config.pretrained.resize=position/embedding

Cost        hours on a GPU (estimate); 124 M parameters
Run         almanac show text_classification/article2_gpt2
"""

from experiments.text_classification.configs.base import base


def get_config():
    return base(
        data=dict(source="imdb", tokenizer="gpt2", length=512, batch_size=8, eval_batch_size=8),
        model=dict(
            name="gpt", num_layers=12, num_heads=12, width=768, bias=True, dropout=0.1, scan=True
        ),
        optim=dict(name="adam", peak_lr=2e-5, schedule="constant"),
        num_steps="3 epochs",
        best=dict(metric=None),
    )  # fmt: skip
