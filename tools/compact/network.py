"""The network itself: dense 3 × 3 convolutions, which processors are quick with, in both directions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SIDE = 80
"""Side of the pictures that it takes, in pixels."""

STEM, STAGES, PENULTIMATE, EMBEDDING = 16, ((32, 1), (64, 2), (128, 2)), 384, 128
N_AGES, TEACHER_WIDTH = 101, 512
MEAN, SCALE = 127.5, 1 / 64


class Block(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, entering: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = convolution(entering, width, 3, stride)
        self.second = convolution(width, width, 3, 1)
        changes = stride > 1 or entering != width
        self.shortcut = convolution(entering, width, 1, stride) if changes else nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.second(torch.relu_(self.first(maps)))
        return torch.relu_(inner.add_(self.shortcut(maps)))


class CompactNet(nn.Module):
    """Pictures of shape (n, 3, 80, 80), normalised, to the penultimate layer; ``embed`` takes that to the embedding.

    The last map is brought to one position by a weight for each of its places and channels, as recognition networks
    do, and not by its mean: where something is matters in a face.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [convolution(3, STEM, 3, 2), nn.ReLU(inplace=True)]
        entering = STEM
        for width, n_blocks in STAGES:
            layers += [Block(entering, width, 2), *(Block(width, width, 1) for _ in range(n_blocks - 1))]
            entering = width
        layers += [convolution(entering, PENULTIMATE, 1, 1), nn.ReLU(inplace=True)]
        self.maps = nn.Sequential(*layers)
        places = SIDE // 16
        self.place_weights = nn.Parameter(torch.full((PENULTIMATE, places, places), 1 / places**2))
        self.norm = nn.BatchNorm1d(PENULTIMATE)
        self.embed = nn.Linear(PENULTIMATE, EMBEDDING)

    def forward(self, pictures: Tensor) -> Tensor:
        maps = self.maps(pictures).float()
        return self.norm((maps * self.place_weights).sum(dim=(2, 3)))


def convolution(entering: int, width: int, kernel: int, stride: int) -> nn.Sequential:
    """Return a convolution with its batch normalisation."""
    layer = nn.Conv2d(entering, width, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(layer, nn.BatchNorm2d(width))


class Student(nn.Module):
    """The network with what it is taught by; everything but the network is left behind when it is shipped."""

    def __init__(self) -> None:
        super().__init__()
        self.net = CompactNet()
        self.age = nn.Linear(PENULTIMATE, N_AGES)
        self.gender = nn.Linear(PENULTIMATE, 2)
        self.teacher = nn.Linear(PENULTIMATE, TEACHER_WIDTH)

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        last = self.net(pictures)
        return {
            "age": self.age(last),
            "gender": self.gender(last),
            "penultimate": self.teacher(last),
            "embedding": self.net.embed(last),
        }
