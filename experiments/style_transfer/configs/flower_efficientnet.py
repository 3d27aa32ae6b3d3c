"""As flower, judged by EfficientNet-Lite0 with ImageNet's weights.

Cost        3 minutes, one CPU core; 0.28 M parameters
Run         almanac train style_transfer/flower_efficientnet
"""

from experiments.style_transfer.configs import flower


def get_config():
    return flower.get_config(style=dict(features="efficientnet_lite0"), loss=dict(style=4.0, variation=10.0))
