"""A BERT-Tiny, pre-trained on WikiText-2 by bert/wikitext2_tiny, fine-tuned on SST-2's sentences.

Its twin from random values is sst2_bert_scratch: the two tell what the pre-training gains. No published number is of this corpus;
the nearest is Turc et al. 2019 (1908.08962), BERT-Tiny, 83.2 % after 3.3 billion words.

Cost        4 minutes a seed on one CPU core; 4.3 M parameters
Run         almanac reproduce text_classification/sst2_bert
"""

from experiments.text_classification.configs.base import base

PRETRAINED = dict(weights="runs/bert/wikitext2_tiny", fresh="^head/", resize="position/embedding")


def recipe(source: str, length: int, cost: str, **pretrained):
    begins = "pre-trained on WikiText-2" if pretrained else "from random values"
    return base(
        data=dict(source=source, tokenizer="wordpiece", length=length, buckets=3, batch_size=32, eval_batch_size=200),
        model=dict(name="bert", num_layers=2, num_heads=2, width=128, dropout=0.1),
        optim=dict(peak_lr=3e-4, schedule="linear", warmup="0.5 epochs", weight_decay=0.01, clip_norm=1.0),
        num_steps="8 epochs",
        log_every=20,
        pretrained=pretrained,
        reproduces=dict(
            paper=f"no published number; {begins}", metric="test/accuracy", select="max:valid/accuracy", seeds=5,
            cost=f"{cost} a seed on a CPU core",
        ),
    )  # fmt: skip


def get_config():
    return recipe("sst2", 64, "4 min", **PRETRAINED)
