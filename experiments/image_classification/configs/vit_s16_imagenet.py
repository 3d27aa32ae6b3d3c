"""ViT-S/16 on ImageNet, ready to launch: big_vision's recipe, 90 epochs of batch 1,024.

Beyer 2022 (2205.01580) reports 76.5 % top-1 on a TPU v3-8 in 6 to 7 hours (big_vision/configs/vit_s16_i1k.py). Its weight decay
of 1e-4 is not multiplied by the rate of 1e-3, as ours is: 0.1 here. ImageNet must be prepared by TFDS as array_record
(`tfds build imagenet2012 --file_format=array_record`). Pictures are fitted to 224 x 224 before the random crops, where the source
crops from whole pictures, and its evaluation resizes to 256 first: expect somewhat less. Nobody has run it here.

Cost        3e18 FLOP; 22.1 M parameters
Run         almanac train image_classification/vit_s16_imagenet
"""

from experiments.image_classification.configs.base import base


def get_config():
    return base(
        data=dict(source="tfds:imagenet2012", size=(224, 224), batch_size=1024, eval_batch_size=1024),
        model=dict(
            name="vit", patch=16, width=384, num_layers=12, num_heads=6, mlp="gelu", pool="mean", positions="sincos",
            representation=384,
        ),
        augment=dict(resized_crop=0.05, flip=0.5, rand_layers=2, rand_magnitude=10.0, mixup=0.2, mean=0.5, std=0.5),
        optim=dict(name="adamw", peak_lr=1e-3, warmup=10_000, weight_decay=0.1, clip_norm=1.0),
        rules="fsdp",
        dtype="bfloat16",
        num_steps="90 epochs",
        log_every=50,
    )  # fmt: skip
