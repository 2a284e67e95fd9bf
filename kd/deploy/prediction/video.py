"""The frames of video files, by PyAV (extra `video`)."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kd.components import missing
from kd.errors import DataError, RecipeError, short
from kd.files.reading import check_file

VIDEOS = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v")
FORMATS = {1: "gray", 3: "rgb24"}  # of PyAV, by channels


def is_video(path: Path) -> bool:
    """Whether a file is a video, by its name."""
    return path.suffix.lower() in VIDEOS


def check_extra(path: Path) -> None:
    """Refuse a video where PyAV is not installed.

    Raises:
        RecipeError: it is not.
    """
    if find_spec("av") is None:
        raise RecipeError(f"{path}: {missing('av', 'video')}")


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import av

    check_file(path, "a video", DataError)
    with av.open(str(path), options={"protocol_whitelist": "file"}) as container:  # a playlist must not reach a network
        yield container


def count_frames(path: Path) -> int:
    """The number of frames, as the file states it; 1 where it states none, or is damaged."""
    try:
        with _opened(path) as container:
            (stream, *_) = container.streams.video
            seconds = float(stream.duration * stream.time_base) if stream.duration else 0.0
            return int(stream.frames) or max(int(seconds * float(stream.average_rate or 0)), 1)
    except Exception:  # noqa: BLE001  # FFmpeg's errors are reported when the frames are read
        return 1


def read_frames(path: Path, channels: int) -> Iterator[Tensor]:
    """The frames in order, uint8 (channels, H, W), turned as the video is shown.

    Args:
        path: the file.
        channels: 1 (the luma) or 3 (RGB).

    Raises:
        DataError: the file has no frame, or is damaged; frames before the damage come first.
    """
    number = 0
    try:
        with _opened(path) as container:
            for frame in container.decode(video=0) if container.streams.video else ():
                pixels = np.rot90(frame.to_ndarray(format=FORMATS[channels]), round(frame.rotation / 90) % 4)
                yield torch.from_numpy(np.atleast_3d(pixels).copy()).permute(2, 0, 1).contiguous()
                number += 1
    except DataError:
        raise
    except Exception as error:
        what = f"damaged after frame {number}" if number else "cannot be read as a video"
        raise DataError(f"{path}: {what}: {short(error)}") from error
    if not number:
        raise DataError(f"{path}: holds no frame")
