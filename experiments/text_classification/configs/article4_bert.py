"""The fourth source article's program, BERT-base with a class from its first token, on IMDb: ready to launch, never trained here.

As printed: 512 pieces, dropout .1, Adam at 2e-5, three epochs, batches of 2. The article does not tell its data; IMDb's reviews
are ours. The published weights are yours to supply, bert-base-uncased as safetensors in FOLDER:
    almanac train text_classification/article4_bert --init-from FOLDER --config.pretrained.fresh=^head/

Cost        hours on a GPU (estimate); 109 M parameters
Run         almanac show text_classification/article4_bert
"""

from experiments.text_classification.configs.base import base


def get_config():
    return base(
        data=dict(source="imdb", tokenizer="wordpiece", length=512, batch_size=2, eval_batch_size=8),
        model=dict(name="bert", num_layers=12, num_heads=12, width=768, dropout=0.1, scan=True),
        optim=dict(name="adam", peak_lr=2e-5, schedule="constant"),
        num_steps="3 epochs",
        best=dict(metric=None),
    )
