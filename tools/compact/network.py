"""The network itself: HSE's FaceRes, a MobileNet, at half the resolution, with normalisations to train it further."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

SIDE = 112
"""Side of the pictures that it takes, in pixels."""

PENULTIMATE, EMBEDDING = 1024, 128
N_AGES, N_IMDB_AGES = 101, 100
TEACHER_WIDTHS = {"penultimate": 512, "pooled": 1024}
MEAN, SCALE = 127.5, 1 / 64


class Layer(nn.Module):
    """A convolution with its normalisation, held between 0 and 6, padded to maps of `side` as TensorFlow does."""

    def __init__(self, weight: Tensor, stride: int, side: int) -> None:
        super().__init__()
        width, entering, kernel, _ = weight.shape
        depthwise = entering == 1
        missing = kernel - 1 if stride == 1 or side % 2 else kernel - 2
        self.near, self.far = missing // 2, missing - missing // 2
        self.conv = nn.Conv2d(
            width if depthwise else entering,
            width,
            kernel,
            stride,
            groups=width if depthwise else 1,
            bias=False,
        )
        self.conv.weight.data = weight.clone()
        self.norm = nn.BatchNorm2d(width)

    def forward(self, maps: Tensor) -> Tensor:
        return nn.functional.hardtanh(self.norm(self.linear(maps)), 0.0, 6.0)

    def linear(self, maps: Tensor) -> Tensor:
        """Return what the convolution alone makes of the maps."""
        if self.near == self.far:
            return nn.functional.conv2d(
                maps,
                self.conv.weight,
                stride=self.conv.stride,
                padding=self.near,
                groups=self.conv.groups,
            )
        return self.conv(nn.functional.pad(maps, (self.near, self.far) * 2))


class CompactNet(nn.Module):
    """Pictures of shape (n, 3, 112, 112), normalised, to the penultimate layer; ``embed`` goes on to the embedding.

    The last map is brought to one position by a weight for each of its places and channels, as recognition networks
    do, and not by its mean: where something is matters in a face.
    """

    def __init__(self, start: list[tuple[Tensor, int]]) -> None:
        super().__init__()
        layers, side = [], SIDE
        for weight, stride in start:
            layers.append(Layer(weight, stride, side))
            side = -(-side // stride)
        self.maps = nn.Sequential(*layers)
        places = side
        self.place_weights = nn.Parameter(torch.full((PENULTIMATE, places, places), 1 / places**2))
        self.norm = nn.BatchNorm1d(PENULTIMATE)
        self.embed = nn.Linear(PENULTIMATE, EMBEDDING)

    def layers(self) -> list[tuple[tuple[int, ...], int]]:
        """Return the shapes of the convolutions' weights, and their strides."""
        return [(tuple(layer.conv.weight.shape), layer.conv.stride[0]) for layer in self.maps]

    def forward(self, pictures: Tensor) -> Tensor:
        maps = self.maps(pictures).float()
        return self.norm((maps * self.place_weights).sum(dim=(2, 3)))


class Student(nn.Module):
    """The network with its heads and with what it is taught by, which is left behind when it is shipped."""

    def __init__(self, start: list[tuple[Tensor, int]]) -> None:
        super().__init__()
        self.net = CompactNet(start)
        widths = {"age": N_AGES, "gender": 2, "imdb_ages": N_IMDB_AGES, "imdb_male": 1} | TEACHER_WIDTHS
        self.heads = nn.ModuleDict({name: nn.Linear(PENULTIMATE, width) for name, width in widths.items()})

    def forward(self, pictures: Tensor, kept: Tensor | None = None) -> dict[str, Tensor]:
        """Return all answers; `kept` (n, 1024) is what dropout leaves of each number, in training."""
        last = self.net(pictures)
        dropped = last if kept is None else last * kept
        answers = {
            name: head(last if name in TEACHER_WIDTHS else dropped) for name, head in self.heads.items()
        }
        return answers | {"embedding": self.net.embed(last)}


def layers_of(faceres: Path) -> tuple[list[tuple[Tensor, int]], list[Tensor]]:
    """Return the convolutions of FaceRes, for pictures normalised as here: weights and strides, then biases."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(faceres)
    kept = {weights.name: numpy_helper.to_array(weights) for weights in model.graph.initializer}
    layers, biases = [], []
    for node in model.graph.node:
        if node.op_type == "Conv":
            weight, bias = (torch.tensor(kept[name]) for name in node.input[1:3])
            layers.append((weight, _attribute(node, "strides")[0]))
            biases.append(bias)
    first = layers[0][0]
    offset = MEAN - torch.tensor([103.939, 116.779, 123.68])
    biases[0] = biases[0] + (first * offset[:, None, None]).sum(dim=(1, 2, 3))
    layers[0] = (first.flip(1) / SCALE, layers[0][1])
    return layers, biases


@torch.no_grad()
def put_norms_in(student: Student, biases: list[Tensor], pictures: Tensor) -> None:
    """Set the new normalisations such that the network says what it said before, with moments of `pictures`."""
    maps = pictures
    for layer, bias in zip(student.net.maps, biases, strict=True):
        linear = layer.linear(maps)
        mean, variance = linear.mean(dim=(0, 2, 3)), linear.var(dim=(0, 2, 3))
        layer.norm.running_mean.copy_(mean)
        layer.norm.running_var.copy_(variance)
        layer.norm.weight.copy_((variance + layer.norm.eps).sqrt())
        layer.norm.bias.copy_(mean + bias)
        maps = (linear + bias[:, None, None]).clamp(0, 6)
    last = maps.mean(dim=(2, 3))
    student.net.norm.running_mean.copy_(last.mean(0))
    student.net.norm.running_var.copy_(last.var(0))


def _attribute(node: Any, name: str) -> list[int]:
    return next(list(attribute.ints) for attribute in node.attribute if attribute.name == name)


def as_input(pictures: NDArray[np.uint8]) -> Tensor:
    """Return pictures of shape (n, h, w, 3) as the network takes them."""
    return ((torch.from_numpy(pictures).float() - MEAN) * SCALE).permute(0, 3, 1, 2)
