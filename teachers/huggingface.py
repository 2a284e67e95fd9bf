"""A network that `save_pretrained` of transformers wrote."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kd.errors import shown
from kd.files.reading import read_text
from kd.types import NetworkTraits
from teachers.wrap import Wrapped


def HuggingFace(  # noqa: N802  # recipes call every network as they call a class
    num_classes: int,
    in_channels: int = 3,
    *,
    folder: str,
    taps: Mapping[str, str] | None = None,
    preprocess: Mapping[str, Any] | None = None,
    probe: Sequence[int] = (128, 128),
) -> Wrapped:
    """A network for semantic segmentation of transformers, with its weights, from a folder on this machine.

        teacher: {use: teachers.HuggingFace, args: {folder: models/segformer-b2}}

    Nothing is downloaded and no code of the folder runs; `hf download NAME --local-dir FOLDER` fetches one. The license
    of the weights is their author's: it is in the folder's README.md. The names of the classes come from `config.json`,
    the form of images from `preprocessor_config.json`. Needs `pip install 'kd-segmentation[hf]'`.

    Source: Wolf et al., "Transformers: State-of-the-Art Natural Language Processing", EMNLP 2020, arXiv:1910.03771.

    Args:
        num_classes: K; must be that of the folder, or `teachers.ClassMapped` goes around it.
        in_channels: channels of an image.
        folder: holds `config.json` and `model.safetensors`, or its parts.
        taps: name -> path of a module, as for `teachers.Wrapped`.
        preprocess: as for `teachers.Wrapped`; what is left out comes from the folder.
        probe: as for `teachers.Wrapped`.

    Shape: images (N, in_channels, H, W) in [0, 1]; logits (N, K, h, w) as the network returns them.

    Raises:
        ValueError: transformers is not installed; the folder holds no such network, or a part of its weights; or the
            number of classes differs.
    """
    try:
        import transformers
    except ImportError:
        raise ValueError("transformers is not installed: pip install 'kd-segmentation[hf]'") from None
    if not Path(folder, "config.json").is_file():
        raise ValueError(f"folder: no {Path(folder, 'config.json')}; name a folder that save_pretrained wrote")
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    try:
        network, loading = transformers.AutoModelForSemanticSegmentation.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    except Exception as error:  # noqa: BLE001  # whatever transformers makes of the files of a folder
        reason = " ".join(str(error).split())[:160]
        raise ValueError(f"folder: {folder} holds no network for semantic segmentation ({reason})") from None
    if missing := sorted(loading["missing_keys"]):
        raise ValueError(
            f"folder: {folder}: tensors missing: {len(missing)} ({', '.join(missing[:3])}); "
            "a teacher is loaded whole: name a folder of a network that was trained for segmentation"
        )
    labels = network.config.id2label
    names = [str(labels.get(index, f"LABEL_{index}")) for index in range(network.config.num_labels)]
    if len(names) != num_classes:
        raise ValueError(
            f"{folder} has {len(names)} classes ({', '.join(names[:5])}{' …' if len(names) > 5 else ''}), but the data "
            f"have {num_classes}; map them with teachers.ClassMapped, and give this network num_classes: {len(names)}"
        )
    wrapped = Wrapped(
        num_classes,
        in_channels,
        network=network.float(),
        taps=taps,
        preprocess={**_preprocess(Path(folder, "preprocessor_config.json"), in_channels), **(preprocess or {})},
        probe=probe,
    )
    if not all(name == f"LABEL_{index}" for index, name in enumerate(names)):
        wrapped.traits = NetworkTraits(class_names=tuple(names))
    return wrapped


def _preprocess(file: Path, channels: int) -> dict[str, Any]:
    """The form of images that the folder states; {} where it has no such file.

    Without a mean in the file, its processor does not normalize (MobileViT's).

    Raises:
        ValueError: the file cannot be read, or states something else.
    """
    if not file.is_file():
        return {}
    text, fix = read_text(file, "settings of a network", ValueError), "correct it, or remove it and give preprocess"
    try:
        stated = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: not valid JSON ({error}); {fix}") from None
    if not isinstance(stated, dict):
        raise ValueError(f"{file}: {shown(stated)} is not a mapping; {fix}")
    turn: dict[str, Any] = {"order": "bgr"} if stated.get("do_flip_channel_order") and channels == 3 else {}
    white = 255.0
    if stated.get("do_rescale", True):
        factor = stated.get("rescale_factor", 1 / 255)
        if type(factor) not in (int, float) or not 0 < factor < math.inf:
            raise ValueError(f"{file}: rescale_factor: {shown(factor)} is not a number above 0; {fix}")
        white = round(255 * factor, 6)  # a factor of 0.00392156862745098, or fewer digits, is 1 / 255
    turn |= {} if white == 1 else {"scale": white}
    plain = {"mean": [0.0] * channels, "std": [1.0] * channels}
    if not stated.get("do_normalize", stated.get("image_mean") is not None or stated.get("image_std") is not None):
        return plain | turn
    form = {name: value for name in ("mean", "std") if (value := stated.get(f"image_{name}")) is not None}
    for name, value in form.items():
        if not isinstance(value, list) or not all(type(each) in (int, float) for each in value):
            raise ValueError(f"{file}: image_{name}: {shown(value)} is not a list of numbers; {fix}")
    return {name: value for name, value in form.items() if len(value) == channels} | turn
