"""The LeNets of LeCun et al. 1998 ("Gradient-based learning applied to document recognition"),
as today's pruning papers train them: ReLU, max-pooling, softmax."""

from flax import linen as nn
from jaxtyping import Float

from research.core.arrays import Array
from research.nn.convolution import conv


class LeNet5(nn.Module):
    """Images -> logits; 61,706 parameters on 28x28x1 with 10 classes.

    `channels=(20, 50), hidden=(500,), pad=0` is the Caffe form of Han et al. 2015, 1506.02626
    (431,080 parameters). `pad` is of the first convolution: 2 makes 28x28 the paper's 32x32.
    """

    num_classes: int
    channels: tuple[int, int] = (6, 16)
    hidden: tuple[int, ...] = (120, 84)
    pad: int = 2

    @nn.compact
    def __call__(self, x: Float[Array, "B Y X C"], train: bool = False) -> Float[Array, "B N"]:
        for i, (channels, pad) in enumerate(zip(self.channels, (self.pad, 0), strict=True), 1):
            x = nn.relu(nn.Conv(channels, (5, 5), padding=pad, conv_general_dilated=conv, name=f"conv{i}")(x))
            x = nn.max_pool(x, window_shape=(2, 2), strides=(2, 2))
        return MLP(self.num_classes, self.hidden, name="mlp")(x, train)


class MLP(nn.Module):
    """Inputs, flattened, -> logits.

    The default is LeNet-300-100 (266,610 parameters on 28x28x1 with 10 classes). Dropout rates are
    for the inputs and for each hidden layer; rng "dropout".
    """

    num_classes: int
    hidden: tuple[int, ...] = (300, 100)
    input_dropout: float = 0.0
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: Float[Array, "B ..."], train: bool = False) -> Float[Array, "B N"]:
        x = nn.Dropout(self.input_dropout, deterministic=not train)(x.reshape(x.shape[0], -1))
        for i, width in enumerate(self.hidden, 1):
            x = nn.relu(nn.Dense(width, name=f"hidden{i}")(x))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_classes, name="head")(x)
