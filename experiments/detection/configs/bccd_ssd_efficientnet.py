"""As bccd_ssd, over EfficientNet-Lite0 with ImageNet's weights in place of a small network from scratch, and a fifth as long.

Cost        18 minutes on a busy CPU core; 3.1 M parameters
Run         almanac train detection/bccd_ssd_efficientnet
"""

from experiments.detection.configs.base import base


def get_config():
    return base(
        data=dict(source="bccd", size=192, batch_size=8, eval_batch_size=32),
        model=dict(name="ssd", backbone="efficientnet_lite0", smallest=0.08, largest=0.6, ratios=(2.0,)),
        augment=dict(flip=0.5, flip_vertical=0.5, scale=0.3, shift=0.1, jitter=0.2),
        optim=dict(peak_lr=1e-3, end_lr=1e-5, schedule="cosine", warmup="50 steps", weight_decay=1e-4, clip_norm=10.0),
        num_steps="20 epochs",
        log_every="1 epoch",
        eval_every="4 epochs",
        save_every="4 epochs",
        pretrained=dict(weights="efficientnet_lite0", into="backbone", fresh="^(classes|offsets)"),
    )
