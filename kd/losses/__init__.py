"""Every loss, one import line each: distillation losses by what they read, then the supervised ones.

A distillation loss is called as `loss(student, teacher, labels)`, a supervised one as `loss(logits, labels)`.
"""

from kd.losses.feature.at import AT
from kd.losses.feature.cosine import Cosine
from kd.losses.feature.cwd import CWD
from kd.losses.feature.mgd import MGD
from kd.losses.feature.mse import MSE
from kd.losses.feature.nfd import NFD
from kd.losses.feature.review_kd import ReviewKD
from kd.losses.feature.srd import SRD
from kd.losses.feature.vid import VID
from kd.losses.response.pixel_kl import PixelKL
from kd.losses.supervised.combined import Combined
from kd.losses.supervised.cross_entropy import CrossEntropy
from kd.losses.supervised.dice import Dice
from kd.losses.supervised.dice_ce import DiceCE
from kd.losses.supervised.dice_focal import DiceFocal
from kd.losses.supervised.focal import Focal
from kd.losses.supervised.jaccard import Jaccard
from kd.losses.supervised.lovasz import Lovasz
from kd.losses.supervised.ohem import OHEM
from kd.losses.supervised.tversky import Tversky

__all__ = [
    "AT",
    "CWD",
    "MGD",
    "MSE",
    "NFD",
    "OHEM",
    "SRD",
    "VID",
    "Combined",
    "Cosine",
    "CrossEntropy",
    "Dice",
    "DiceCE",
    "DiceFocal",
    "Focal",
    "Jaccard",
    "Lovasz",
    "PixelKL",
    "ReviewKD",
    "Tversky",
]
