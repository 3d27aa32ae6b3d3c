"""ResNet-50 on ImageNet, ready to launch: google/flax's recipe, 100 epochs of batch 8,192.

google/flax reports 76.54 % top-1 on a TPU v3-32 in 2.1 hours, and 76.27 to 76.72 % over its set-ups (examples/imagenet README).
ImageNet must be prepared by TFDS as array_record (`tfds build imagenet2012 --file_format=array_record`); pictures are resized to
cover 224 x 224 and flipped, without the source's random resized crops, so expect less than its figure. Nobody has run it here.

Cost        2.8e18 FLOP; 25.6 M parameters
Run         almanac train image_classification/resnet50_imagenet
"""

from experiments.image_classification.configs.base import base


def get_config():
    return base(
        data=dict(source="tfds:imagenet2012", size=(224, 224), batch_size=8192, eval_batch_size=8192),
        model=dict(name="resnet", depth=50, form="imagenet", zero_init=True),
        augment=dict(
            crop=16, flip=0.5, smoothing=0.1, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
        ),
        optim=dict(name="nesterov", momentum=0.9, peak_lr=3.2, warmup="5 epochs", weight_decay=1e-4),
        rules="fsdp",
        dtype="bfloat16",
        num_steps="100 epochs",
        log_every=100,
    )  # fmt: skip
