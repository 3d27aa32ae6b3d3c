"""Two convolutions and a hidden layer: the small networks of the MNIST literature."""

from flax import linen as nn
from jaxtyping import Float

from research.core.arrays import Array
from research.nn.convolution import conv
from research.util.errors import UserError

# Axes are aligned to the last dimensions. Kernels are [k, k, I, O] or [I, O].
SHARDING = {
    "fsdp": ((r"kernel$", "fsdp"),),
    "tensor": (  # outputs, then inputs: one all-reduce after conv2, one after head
        (r"(conv1|hidden)/kernel$", ("model",)),
        (r"(conv1|hidden)/bias$", ("model",)),
        (r"(conv2|head)/kernel$", ("model", None)),
    ),
}


class ConvNet(nn.Module):
    """Images -> logits; with `num_classes=0` a trunk: the hidden layer, f32[B, hidden].

    The default is the CNN of google/flax's MNIST example (824,458 parameters on 28x28x1);
    `kernel=5, hidden=512, pool="max"` is McMahan et al. 2017, 1602.05629 (1,663,370); `channels=(32, 32), padding="VALID",
    first_pool=False, pool="max", hidden=128` Keras's mnist_transfer_cnn.py (600,165 at five classes).
    """

    num_classes: int
    channels: tuple[int, int] = (32, 64)
    kernel: int = 3
    hidden: int = 256
    pool: str = "avg"
    padding: str = "SAME"  # or VALID, of the convolutions
    first_pool: bool = True  # after the first convolution; the others have one always
    conv_dropout: float = 0.0  # of what the convolutions found, before the hidden layer
    dropout: float = 0.0  # before the head

    @nn.compact
    def __call__(self, x: Float[Array, "B Y X C"], train: bool = False) -> Float[Array, "B N"]:
        pools = {"avg": nn.avg_pool, "max": nn.max_pool}
        if self.pool not in pools:
            raise UserError(f"model.pool {self.pool!r} is unknown; known: avg, max")
        if self.padding not in ("SAME", "VALID"):
            raise UserError(f"model.padding = {self.padding!r} is unknown; known: SAME, VALID")
        for i, channels in enumerate(self.channels, 1):
            size = (self.kernel, self.kernel)
            x = nn.Conv(channels, size, padding=self.padding, conv_general_dilated=conv, name=f"conv{i}")(x)
            x = nn.relu(x)
            if i > 1 or self.first_pool:
                x = pools[self.pool](x, window_shape=(2, 2), strides=(2, 2))
        x = nn.Dropout(self.conv_dropout, deterministic=not train)(x.reshape(x.shape[0], -1))
        x = nn.relu(nn.Dense(self.hidden, name="hidden")(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_classes, name="head")(x) if self.num_classes else x
