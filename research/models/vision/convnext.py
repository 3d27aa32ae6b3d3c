"""ConvNeXt (Liu et al. 2022, 2201.03545): a convolutional network with a transformer's design.

size         depths           widths                  parameters at 1,000 classes
ConvNeXt-T   (3, 3, 9, 3)     (96, 192, 384, 768)      28,589,128
ConvNeXt-S   (3, 3, 27, 3)    (96, 192, 384, 768)      50,223,688
ConvNeXt-B   (3, 3, 27, 3)    (128, 256, 512, 1024)    88,591,464
"""

from functools import partial

from flax import linen as nn
from jaxtyping import Float

from research.core.arrays import Array
from research.core.mesh import shard_activations
from research.models.vision import picture_shape
from research.nn.convolution import conv
from research.nn.feed_forward import FeedForward
from research.nn.stochastic_depth import DropPath, rates
from research.util.errors import UserError

SHARDING = {
    "fsdp": ((r"kernel$", "fsdp"),),
    "tensor": (
        (r"up/kernel$", (None, "model")),
        (r"up/bias$", ("model",)),
        (r"down/kernel$", ("model", None)),
    ),
}

INIT = nn.initializers.truncated_normal(0.02)
Conv = partial(nn.Conv, kernel_init=INIT, conv_general_dilated=conv)


class Block(nn.Module):
    """x + scale * feed_forward(norm(depthwise 7 x 7 convolution(x))); figure 4."""

    layer_scale: float
    norm_eps: float
    drop_path: float

    @nn.compact
    def __call__(self, x: Float[Array, "B Y X C"], train: bool) -> Float[Array, "B Y X C"]:
        C = x.shape[-1]
        y = Conv(C, (7, 7), padding=3, feature_group_count=C, name="depthwise")(x)
        y = nn.LayerNorm(epsilon=self.norm_eps, name="norm")(y)
        y = FeedForward(4 * C, "gelu_exact", bias=True, kernel_init=INIT, out_init=INIT, name="feed_forward")(y)
        if self.layer_scale:
            y *= self.param("scale", nn.initializers.constant(self.layer_scale), (C,)).astype(y.dtype)
        return shard_activations(x + DropPath(self.drop_path, train)(y))


class ConvNeXt(nn.Module):
    """Images -> logits. The default is ConvNeXt-T.

    Raises UserError for a picture that the strides do not divide, and for values that do not fit.
    """

    num_classes: int
    image_shape: tuple[int, int, int]  # (Y, X, C)
    depths: tuple[int, ...] = (3, 3, 9, 3)  # blocks of each stage; each stage after the first halves the sides
    widths: tuple[int, ...] = (96, 192, 384, 768)
    patch: int = 4  # kernel and stride of the stem
    layer_scale: float = 1e-6  # initial scale of a residual branch; 0: none
    norm_eps: float = 1e-6
    drop_path: float = 0.0  # stochastic depth: the last block's rate, from 0 at the first

    def __post_init__(self):
        _check(self)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Float[Array, "B Y X C"], train: bool = False) -> Float[Array, "B N"]:
        picture_shape.check(x, self.image_shape)
        norm, paths = partial(nn.LayerNorm, epsilon=self.norm_eps), iter(rates(self.drop_path, sum(self.depths)))
        down = partial(Conv, padding="VALID")
        for i, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True)):
            if i == 0:
                size = (self.patch, self.patch)
                x = norm(name="stem_norm")(down(width, size, size, name="stem")(x))
            else:
                x = down(width, (2, 2), (2, 2), name=f"down{i}")(norm(name=f"down{i}_norm")(x))
            for j in range(depth):
                x = Block(self.layer_scale, self.norm_eps, next(paths), name=f"stage{i}_block{j}")(x, train)
        x = norm(name="final_norm")(x.mean((1, 2)))
        return nn.Dense(self.num_classes, kernel_init=INIT, name="head")(x)


def _check(model: ConvNeXt) -> None:
    depths, widths = model.depths, model.widths
    if not depths or len(depths) != len(widths) or min(*depths, *widths, model.patch) < 1:
        raise UserError(
            f"model.depths = {depths}, model.widths = {widths}, model.patch = {model.patch}: one of each a stage"
        )
    rates(model.drop_path, sum(depths))
    stride = model.patch * 2 ** (len(depths) - 1)
    rows, columns, _ = model.image_shape
    if rows % stride or columns % stride:
        raise UserError(
            f"pictures of {rows} x {columns} pixels: model.patch and {len(depths)} stages need a multiple of {stride}; "
            "pad them by augment.pad, or change model.patch"
        )
