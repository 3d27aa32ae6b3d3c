"""A ViT that knows the digits 0 to 4 learns 5 to 9 by LoRA: adapters of rank 4, and a new head. See docs/lora.md.

Cost        half a minute on 2 CPU cores, after digits_0_4_vit; 0.15 M parameters, of which 12,613 train
Run         almanac train image_classification/digits_0_4_vit
            almanac train image_classification/digits_5_9_lora
"""

from experiments.image_classification.configs.digits_0_4_vit import recipe


def get_config():
    return recipe(
        (5, 6, 7, 8, 9),
        pretrained=dict(weights="runs/image_classification/digits_0_4_vit", fresh="^head/"),
        lora=dict(rank=4),
        optim=dict(peak_lr=1e-2, warmup="1 epoch"),
        num_steps="10 epochs",
        eval_every="2 epochs",
        save_every="10 epochs",
    )
