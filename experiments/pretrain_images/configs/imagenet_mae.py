"""ViT-B/16 pre-trained on ImageNet as a masked autoencoder, ready to launch: the paper's recipe, 800 epochs of batch 4,096.

He et al. 2022, table 8: AdamW at 1.5e-4 * 4,096 / 256 with b2 = 0.95 and a decay of 0.05, 40 epochs of warm-up, crops of 20 %
and more, flips, normalised targets. Their linear probe reaches 68.0 % after 1,600 epochs (table 3). The authors' decay spares the
biases and norms, as ours does; pictures are fitted to 224 x 224 before the random crops, where the source crops from whole
pictures. ImageNet must be prepared by TFDS as array_record (`tfds build imagenet2012 --file_format=array_record`). Nobody has
run it here.

Cost        3e19 FLOP, estimated; 111.7 M parameters, of which 85.6 M are the encoder's
Run         almanac train pretrain_images/imagenet_mae
"""

from experiments.pretrain_images.configs.base import base


def get_config():
    return base(
        data=dict(source="tfds:imagenet2012", size=(224, 224), batch_size=4096, eval_batch_size=1024),
        model=dict(name="mae"),  # the module's defaults
        augment=dict(resized_crop=0.2, flip=0.5, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        probe=dict(examples=100_000),
        optim=dict(peak_lr=2.4e-3, warmup="40 epochs", weight_decay=0.05, b2=0.95),
        rules="fsdp",
        dtype="bfloat16",
        num_steps="800 epochs",
        log_every=50,
        eval_every="100 epochs",
        save_every="5 epochs",
    )
