"""Cityscapes: street scenes of 50 cities, 19 classes."""

from kd.data.datasets.published import Found, Part, Published, Release, find, numbered
from kd.data.masks.unknown import CITYSCAPES as IDS
from kd.types import IGNORE

COLORS = (
    (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153), (250, 170, 30),
    (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142),
    (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
)  # fmt: skip
LARGEST = 33  # of the labelIds


def Cityscapes(root: str, split: str, *, coarse: bool = False) -> Published:  # noqa: N802  # recipes call it like a class
    """Cityscapes: 2,975 training and 500 validation images of 2048×1024 with fine masks.

    19 of the 34 labels are scored; the others are ignored. The public masks of the 1,525 test images hold no class;
    they are scored by the authors' server.

    Source: Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016,
        arXiv:1604.01685. For research and teaching, after registration at cityscapes-dataset.com; not for sale, and
        images must not be passed on.

    Args:
        root: the folder that contains `leftImg8bit/` and `gtFine/`.
        split: "train", "val" or "test".
        coarse: whether the 19,998 images of `train_extra` with coarse masks train too.

    Raises:
        DataError: a folder is missing; an image has no mask; (by item) a file is damaged or holds an unknown label.
    """

    def part(folder: str, kind: str) -> Found:
        row = Part(f"leftImg8bit/{folder}", f"gt{kind}/{folder}", None, "_leftImg8bit", f"_gt{kind}_labelIds")
        return find(_RELEASE, row, root)

    extra = [part("train_extra", "Coarse")] if coarse and split == "train" else []
    return Published(_RELEASE, split, [part(split, "Fine"), *extra])


_RELEASE = Release(
    "Cityscapes",
    COLORS,
    numbered(
        tuple(IDS),
        dict.fromkeys(range(LARGEST + 1), IGNORE) | {number: index for index, number in enumerate(IDS.values())},
    ),
    "leftImg8bit/{train, val, test} and gtFine/{train, val, test}",
    "get leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip (for coarse: leftImg8bit_trainextra.zip and "
    "gtCoarse.zip) from cityscapes-dataset.com, unpack them",
)
