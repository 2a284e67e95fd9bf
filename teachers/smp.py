"""A network of segmentation_models.pytorch."""

from collections.abc import Mapping, Sequence
from typing import Any

from teachers.wrap import Wrapped


def SMP(  # noqa: N802  # recipes call every network as they call a class
    num_classes: int,
    in_channels: int = 3,
    *,
    architecture: str = "unet",
    encoder: str = "resnet34",
    options: Mapping[str, Any] | None = None,
    taps: Mapping[str, str] | None = None,
    preprocess: Mapping[str, Any] | None = None,
    probe: Sequence[int] = (128, 128),
) -> Wrapped:
    """A network of segmentation_models.pytorch, as `smp.create_model` builds it; `weights` loads a file of it.

        teacher: {use: teachers.SMP, args: {architecture: fpn, encoder: resnet50}, weights: fpn.pth}

    Nothing is downloaded; without `weights` it starts from scratch. The license of weights is their author's; that of
    the code is MIT. Most architectures take sizes that are multiples of 32. Needs `pip install 'kd-segmentation[smp]'`.

    Source: Iakubovskii, "Segmentation Models Pytorch", github.com/qubvel-org/segmentation_models.pytorch.

    Args:
        num_classes: K.
        in_channels: channels of an image.
        architecture: `unet`, `fpn`, `deeplabv3plus`, …, as `smp.create_model` takes it.
        encoder: `resnet34`, `mit_b2`, …, as `encoder_name` there.
        options: further arguments of the architecture.
        taps: name -> path of a module, as for `teachers.Wrapped`.
        preprocess: as for `teachers.Wrapped`; a few encoders, such as `xception`, want other than ImageNet's form.
        probe: as for `teachers.Wrapped`.

    Shape: images (N, in_channels, H, W) in [0, 1]; logits (N, K, H, W).

    Raises:
        ValueError: segmentation_models_pytorch is not installed, or has no such architecture or encoder.
    """
    try:
        import segmentation_models_pytorch as smp
    except ImportError:
        raise ValueError("segmentation_models_pytorch is not installed: pip install 'kd-segmentation[smp]'") from None
    try:
        network = smp.create_model(
            architecture,
            encoder_name=encoder,
            encoder_weights=None,
            in_channels=in_channels,
            classes=num_classes,
            **(options or {}),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{architecture} with {encoder}: {' '.join(str(error).split())[:300]}") from None
    return Wrapped(num_classes, in_channels, network=network, taps=taps, preprocess=preprocess, probe=probe)
