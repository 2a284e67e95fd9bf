"""Videos as images, frame by frame; what is no video is one line."""

import sys
from pathlib import Path

import numpy as np
import pytest
from command import kd as command
from PIL import Image
from tiny import read, run, write_recipes

from kd.deploy.prediction.photos import find_photos
from kd.deploy.prediction.video import check_extra
from kd.errors import RecipeError
from kd.recipe import baseline_of, to_yaml

SHADES = (20, 90, 160, 230)


def write_video(path, shades=SHADES, rate=5):
    """Frames of 64 × 48, each of one shade, without loss."""
    with sys.modules["av"].open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
        for shade in shades:
            pixels = np.full((48, 64, 3), (shade, 0, 0), np.uint8)
            container.mux(stream.encode(sys.modules["av"].VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode(None))


def write_sound(path):
    with sys.modules["av"].open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = sys.modules["av"].AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.fixture
def pyav():
    return pytest.importorskip("av", reason="needs the extra video: pip install 'kd-segmentation[video]'")


@pytest.mark.parametrize("channels", [3, 1])
def test_frames_are_read_in_order(pyav, folder, channels):
    from kd.deploy.prediction.video import count_frames, read_frames

    write_video("clip.mkv")
    frames = list(read_frames(Path("clip.mkv"), channels))
    assert [frame.shape for frame in frames] == [(channels, 48, 64)] * 4
    shades = [int(frame[0].float().mean()) for frame in frames]
    assert shades == list(SHADES) if channels == 3 else shades == sorted(set(shades))
    assert count_frames(Path("clip.mkv")) >= 1


def test_what_is_no_video_is_one_line(pyav, folder, tmp_path_factory, capsys):
    write_recipes(folder)
    Path("alone.yaml").write_text(to_yaml(baseline_of(read(folder / "student.yaml"))))
    ((run_dir,), _) = run(read(folder / "alone.yaml"), folder / "runs")
    write_video("clip.mkv")
    write_sound("empty.mkv")
    Path("page.mp4").write_text("<html>")
    Image.fromarray(np.full((48, 64, 3), 90, np.uint8)).save("photo.png")
    call = ("predict", run_dir, "page.mp4", "clip.mkv", "empty.mkv", "photo.png", "--trust", "--overlay")
    assert command(*call) == 3
    out, err = capsys.readouterr()
    assert out.endswith("5 of 7 images predicted: predictions/masks, predictions/overlay\n")
    first, second = err.splitlines()
    assert first.startswith("page.mp4: cannot be read as a video: ")
    assert second == "empty.mkv: holds no frame"
    masks = sorted(str(path.relative_to("predictions/masks")) for path in Path("predictions/masks").rglob("*.png"))
    assert masks == [*(f"clip/00000{number}.png" for number in range(4)), "photo.png"]
    assert Image.open("predictions/masks/clip/000003.png").size == (64, 48)
    assert command("predict", run_dir, "clip.mkv", "--trust") == 2
    assert capsys.readouterr().err.startswith("predictions/masks/clip: already there; choose another --out")


def test_a_missing_package_is_named(folder, monkeypatch):
    Path("clip.mp4").touch()
    monkeypatch.setattr("kd.deploy.prediction.video.find_spec", lambda package: None)
    with pytest.raises(RecipeError) as caught:
        find_photos(["clip.mp4"], videos=True)
    assert str(caught.value) == "clip.mp4: av is not installed; pip install 'kd-segmentation[video]'"
    assert not find_photos(["clip.mp4"])[0].video  # where images alone are wanted
    monkeypatch.undo()
    monkeypatch.setattr("kd.deploy.prediction.video.find_spec", lambda package: "installed")
    check_extra(Path("clip.mp4"))
