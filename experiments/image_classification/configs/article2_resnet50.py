"""The second source article's picture classifier, as it prints the first of its two networks: ResNet-50, Adam, three epochs.

The article tells neither its data nor a rate: Fashion-MNIST and Adam's usual 1e-3 are ours. Ready to launch; never trained here.
The other network, a transformer: --config.model.name=vit --config.model.patch=4

Cost        minutes on a GPU, hours on a CPU (estimates); 23.5 M parameters
Run         almanac train image_classification/article2_resnet50
"""

from experiments.image_classification.configs.base import base


def get_config():
    return base(
        data=dict(source="fashion_mnist", batch_size=32),
        model=dict(name="resnet", depth=50, form="imagenet"),
        optim=dict(name="adam", peak_lr=1e-3, schedule="constant"),
        num_steps="3 epochs",
        best=dict(metric=None),
    )
