"""Convolutional networks in plain PyTorch, for comparison with ours. Does not import JAX."""

from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from tools.dev.bench.bench_torch_layers import Model


class Images(Model):
    """images [B, C, Y, X] -> logits [B, N]."""

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        return self.cross_entropy(self(batch["image"]), batch["label"])


class ConvNet(Images):
    """The same as our `convnet.ConvNet`."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        num_classes: int,
        channels: tuple[int, int] = (32, 64),
        kernel: int = 3,
        hidden: int = 256,
        pool: str = "avg",
    ):
        super().__init__()
        self.pool: Any = {"avg": F.avg_pool2d, "max": F.max_pool2d}[pool]
        self.conv1 = nn.Conv2d(shape[2], channels[0], kernel, padding="same")
        self.conv2 = nn.Conv2d(channels[0], channels[1], kernel, padding="same")
        self.grid = (shape[0] // 4, shape[1] // 4, channels[1])
        self.hidden = nn.Linear(int(np.prod(self.grid)), hidden)
        self.head = nn.Linear(hidden, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.conv1(x)), 2)
        x = self.pool(F.relu(self.conv2(x)), 2)
        return self.head(F.relu(self.hidden(x.flatten(1))))


class Block(nn.Module):
    """x [B, I, Y, X] -> [B, O, Y/stride, X/stride]."""

    def __init__(self, inputs: int, outputs: int, stride: int, project: bool, bottleneck: bool):
        super().__init__()
        self.stride, self.grow, self.bottleneck = stride, outputs - inputs, bottleneck
        self.project = project and (outputs != inputs or stride > 1)
        inner = outputs // 4 if bottleneck else outputs
        if bottleneck:
            self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
            self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False)
            self.norm2 = nn.BatchNorm2d(inner)
            self.out = nn.Conv2d(inner, outputs, 1, bias=False)
        else:
            self.conv1 = nn.Conv2d(inputs, inner, 3, stride, 1, bias=False)
            self.out = nn.Conv2d(inner, outputs, 3, 1, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(inner)
        self.out_norm = nn.BatchNorm2d(outputs)
        if self.project:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut_norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        if self.bottleneck:
            y = F.relu(self.norm2(self.conv2(y)))
        y = self.out_norm(self.out(y))
        if self.project:
            x = self.shortcut_norm(self.shortcut(x))
        elif self.grow:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.grow))
        return F.relu(x + y)


STAGES = {  # depth of the form "imagenet" -> bottlenecks?, blocks in each stage
    18: (False, (2, 2, 2, 2)),
    34: (False, (3, 4, 6, 3)),
    50: (True, (3, 4, 6, 3)),
    101: (True, (3, 4, 23, 3)),
    152: (True, (3, 8, 36, 3)),
}


class ResNet(Images):
    """The same as our `resnet.ResNet`, in both forms."""

    def __init__(
        self, shape: tuple[int, int, int], num_classes: int, depth: int = 50, form: str = "imagenet",
        shortcut: str = "projection",
    ):  # fmt: skip
        super().__init__()
        bottleneck, stages = STAGES[depth] if form == "imagenet" else (False, ((depth - 2) // 6,) * 3)
        width = 64 if form == "imagenet" else 16
        self.large = form == "imagenet"
        self.stem = nn.Conv2d(shape[2], width, *((7, 2, 3) if self.large else (3, 1, 1)), bias=False)
        self.stem_norm = nn.BatchNorm2d(width)
        self.blocks, inputs = [], width
        for i, count in enumerate(stages):
            for j in range(count):
                outputs, stride = width * 2**i * (4 if bottleneck else 1), 2 if i and not j else 1
                self.blocks.append(name := f"stage{i}_block{j}")
                self.add_module(name, Block(inputs, outputs, stride, shortcut == "projection", bottleneck))
                inputs = outputs
        self.head = nn.Linear(inputs, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem_norm(self.stem(x)))
        if self.large:
            x = F.max_pool2d(x, 3, 2, 1)
        for name in self.blocks:
            x = getattr(self, name)(x)
        return self.head(x.mean((2, 3)))
