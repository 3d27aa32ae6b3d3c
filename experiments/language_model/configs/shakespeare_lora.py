"""A GPT that has read Python's reference by bytes, adapted to Shakespeare by LoRA of rank 16. See docs/lora.md.

Cost        half a minute on 2 CPU cores, after its base; 0.82 M parameters, of which 131,072 train
Run         almanac train language_model/pydoc_char --workdir runs/language_model/pydoc_byte --config.data.tokenizer=byte
            almanac train language_model/shakespeare_lora
"""

from experiments.language_model.configs.base import base


def get_config():
    return base(
        data=dict(source="tiny_shakespeare", tokenizer="byte", length=64, batch_size=16),
        model=dict(num_layers=4, num_heads=4, width=128, positions="rotary"),
        pretrained=dict(weights="runs/language_model/pydoc_byte"),
        lora=dict(rank=16),
        optim=dict(peak_lr=1e-2, warmup=30, b2=0.99, clip_norm=1.0),
        num_steps=200,
        eval_every=100,
        save_every=100,
    )
