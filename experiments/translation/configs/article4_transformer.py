"""The fourth source article's Transformer: width 512, 8 heads, Adam at 1e-3. Ready to launch; never trained here.

The article tells neither its data, its layers nor its steps: German from English captions (Multi30k), the six layers of the
paper that it describes (Vaswani et al. 2017), and 2,000 steps are ours.

Cost        hours on a CPU (estimate); 48 M parameters
Run         almanac train translation/article4_transformer    # Multi30k
"""

from experiments.translation.configs.base import base


def get_config():
    return base(
        data=dict(source="multi30k", pair="en-de", tokenizer="bpe", vocab_size=8_000),
        model=dict(width=512, num_heads=8, mlp_width=2_048, encoder_layers=6, decoder_layers=6),
        optim=dict(name="adam", peak_lr=1e-3, schedule="constant"),
    )
