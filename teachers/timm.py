"""An encoder of timm with a light head for segmentation."""

import torch
from torch import Tensor, nn

from kd.networks.layers import conv_norm_act, upsample_to
from kd.networks.normalize import Normalize
from kd.types import SegmentationOutput, Tap


class Timm(nn.Module):
    """An encoder of timm and a head that adds up its maps, each projected to one width, at the finest of their strides.

        student: {use: teachers.Timm, args: {model: convnext_tiny}, weights: convnext_tiny.safetensors, partial: true}

    Nothing is downloaded; `weights` loads a file of the encoder or of the whole network, whose license is its author's;
    that of timm is Apache 2.0. timm has no weights for segmentation, so a teacher is trained by its own recipe first.
    Needs `pip install 'kd-segmentation[timm]'`.

    Taps: `low`, `mid`, `high`, the encoder's maps at strides 4, 8 and 16, as far as it has them.

    Source: Wightman, "PyTorch Image Models", doi:10.5281/zenodo.4414861; the head is that of Kirillov et al., "Panoptic
    Feature Pyramid Networks", CVPR 2019, arXiv:1901.02446, with one convolution a map.

    Args:
        num_classes: K.
        in_channels: channels of an image.
        model: its name in timm, one that has `features_only`.
        width: channels of the head.

    Shape: images (N, in_channels, H, W) in [0, 1]; logits (N, K, h, w) at the encoder's finest stride of 4 or more.

    Raises:
        ValueError: timm is not installed, or has no such model with maps.
    """

    def __init__(self, num_classes: int, in_channels: int = 3, *, model: str, width: int = 128) -> None:
        super().__init__()
        try:
            import timm
        except ImportError:
            raise ValueError("timm is not installed: pip install 'kd-segmentation[timm]'") from None
        try:
            self.backbone = timm.create_model(model, pretrained=False, features_only=True, in_chans=in_channels)
        except (RuntimeError, AttributeError, ValueError) as error:
            raise ValueError(f"model: timm has no {model} with maps ({' '.join(str(error).split())[:160]})") from None
        self.num_classes, self.in_channels = num_classes, in_channels
        info = self.backbone.feature_info
        places = list(zip(info.reduction(), info.channels(), strict=True))
        self.used = [index for index, (stride, _) in enumerate(places) if stride >= 4]
        names = {4: "low", 8: "mid", 16: "high"}
        self.tapped = {names[stride]: index for index, (stride, _) in enumerate(places) if stride in names}
        self.taps = {name: Tap(places[index][1], places[index][0]) for name, index in self.tapped.items()}
        config = getattr(self.backbone, "pretrained_cfg", None) or {}
        stated = {key: config.get(key) for key in ("mean", "std")} if in_channels == 3 else {}
        self.normalize = Normalize(in_channels, **{key: value for key, value in stated.items() if value})
        self.project = nn.ModuleList(conv_norm_act(places[index][1], width, 1) for index in self.used)
        self.fuse = conv_norm_act(width, width, 3)
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, images: Tensor) -> SegmentationOutput:
        """Images in [0, 1] to logits and taps."""
        maps: list[Tensor] = self.backbone(self.normalize(images))
        projected = [project(maps[index]) for project, index in zip(self.project, self.used, strict=True)]
        total = torch.stack([upsample_to(each, projected[0]) for each in projected]).sum(0)
        features = {name: maps[index] for name, index in self.tapped.items()}
        return SegmentationOutput(self.classifier(self.fuse(total)), features, {})
