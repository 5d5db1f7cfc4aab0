"""Caffe's GoogLeNet (Szegedy et al. 2015) as in the BVLC model zoo: the network of the paper.

It differs from torchvision's: local response normalisation instead of BatchNorm, true 5 x 5 filters, pools that round
their size up, and a bias for every convolution. Modules have torchvision's names.

Legend: N frames, D channels, H, W sides of a map.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvRelu(nn.Module):
    """A convolution with bias, followed by a ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2)

    def forward(self, maps: Tensor) -> Tensor:
        """Compute the output maps from maps (N, D, H, W)."""
        return F.relu(self.conv(maps))


class LocalResponseNorm(nn.Module):
    """x_d (1 + alpha / n sum of x^2 over the n channels around d)^(-beta), Krizhevsky et al. 2012, section 3.3.

    With n = 5, alpha = 1e-4, beta = 0.75, computed in fp32 whatever the type of the maps. torch's own pools over three
    dimensions, which takes two thirds of this network's time and does not support bfloat16 on the CPU.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Compute the output maps from maps (N, D, H, W)."""
        channels = maps.permute(0, 2, 3, 1).float()
        place = torch.arange(channels.shape[3], device=maps.device)
        near = ((place[:, None] - place).abs() <= 2).float()  # (D, D): the five channels around each
        root = F.linear(channels.square(), near * (1e-4 / 5), torch.ones_like(near[0])).rsqrt_()
        return root.mul_(root.sqrt()).mul_(channels).to(maps.dtype).permute(0, 3, 1, 2)


class Inception(nn.Module):
    """An Inception block of four branches: 1 x 1, reduced 3 x 3, reduced 5 x 5, and pooling with a projection."""

    def __init__(self, channels: int, one: int, three: tuple[int, int], five: tuple[int, int], pool: int) -> None:
        super().__init__()
        self.branch1 = ConvRelu(channels, one, 1)
        self.branch2 = nn.Sequential(ConvRelu(channels, three[0], 1), ConvRelu(*three, 3))
        self.branch3 = nn.Sequential(ConvRelu(channels, five[0], 1), ConvRelu(*five, 5))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), ConvRelu(channels, pool, 1))

    def forward(self, maps: Tensor) -> Tensor:
        """Compute the output maps from maps (N, D, H, W)."""
        return torch.cat([self.branch1(maps), self.branch2(maps), self.branch3(maps), self.branch4(maps)], 1)


class CaffeGoogLeNet(nn.Module):
    """The whole network: from mean-subtracted RGB (N, 3, 224, 224) to the logits of ImageNet's 1000 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = ConvRelu(3, 64, 7, stride=2)
        self.maxpool1 = _halving_pool()
        self.norm1 = LocalResponseNorm()
        self.conv2 = ConvRelu(64, 64, 1)
        self.conv3 = ConvRelu(64, 192, 3)
        self.norm2 = LocalResponseNorm()
        self.maxpool2 = _halving_pool()
        self.inception3a = Inception(192, 64, (96, 128), (16, 32), 32)
        self.inception3b = Inception(256, 128, (128, 192), (32, 96), 64)
        self.maxpool3 = _halving_pool()
        self.inception4a = Inception(480, 192, (96, 208), (16, 48), 64)
        self.inception4b = Inception(512, 160, (112, 224), (24, 64), 64)
        self.inception4c = Inception(512, 128, (128, 256), (24, 64), 64)
        self.inception4d = Inception(512, 112, (144, 288), (32, 64), 64)
        self.inception4e = Inception(528, 256, (160, 320), (32, 128), 128)
        self.maxpool4 = _halving_pool()
        self.inception5a = Inception(832, 256, (160, 320), (32, 128), 128)
        self.inception5b = Inception(832, 384, (192, 384), (48, 128), 128)
        self.fc = nn.Linear(1024, 1000)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits of the images, shape (N, 1000)."""
        maps = self.norm1(self.maxpool1(self.conv1(images)))
        maps = self.maxpool2(self.norm2(self.conv3(self.conv2(maps))))
        maps = self.maxpool3(self.inception3b(self.inception3a(maps)))
        maps = self.inception4c(self.inception4b(self.inception4a(maps)))
        maps = self.maxpool4(self.inception4e(self.inception4d(maps)))
        maps = self.inception5b(self.inception5a(maps))
        logits: Tensor = self.fc(maps.mean((2, 3)))
        return logits


def _halving_pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)
