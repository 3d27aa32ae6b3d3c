"""The family's defaults. An experiment is `base(group=dict(key=value), ...)`."""

from typing import Any

from ml_collections import ConfigDict

from research.core import config
from research.data.defaults import AUGMENT, IMAGES
from research.nn import model_keys

MODELS = {  # model.name -> the module whose fields are its keys
    "compact_transformer": "research.models.vision.compact_transformer.CompactTransformer",
    "convnet": "research.models.vision.convnet.ConvNet",
    "convnext": "research.models.vision.convnext.ConvNeXt",
    "efficientnet": "research.models.vision.efficientnet.EfficientNetLite",
    "googlenet": "research.models.vision.googlenet.GoogLeNet",
    "inception_v3": "research.models.vision.inception_v3.InceptionV3",
    "lenet5": "research.models.vision.lenet.LeNet5",
    "mlp": "research.models.vision.lenet.MLP",
    "resnet": "research.models.vision.resnet.ResNet",
    "vit": "research.models.vision.vit.ViT",
}


def base(**changes: Any) -> ConfigDict:
    return config.merge(
        config.family_defaults(
            data=dict(
                **IMAGES,
                extra=None,  # a folder of `almanac feedback export`: trained on too; what it holds out is the split new
                extra_share=None,  # of an epoch's examples that are of extra, repeated in turn; None: each once
                batch_size=128,  # over all devices, B
                eval_batch_size=512,
            ),
            model=model_keys.of_model(MODELS, changes, "convnet"),
            augment=AUGMENT,
            probe=None,  # at the end a linear probe, and prototypes of all and of so many pictures a class: (1, 5), or ()
            macro_f1=None,  # True: F1 of each class and their mean are measured, too
            best=dict(metric="valid/accuracy", mode="max", patience=None),  # patience: a duration
        ),
        **changes,
    )
