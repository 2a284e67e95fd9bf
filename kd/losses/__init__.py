"""Every loss, with one import line each: distillation losses by what they read, then supervised losses.

Call a distillation loss as `loss(student, teacher, labels)` and a supervised loss as `loss(logits, labels)`.
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
from kd.losses.modifiers import Masked, Sampled
from kd.losses.relation.cirkd import CIRKDMemory, CIRKDMiniBatch
from kd.losses.relation.dsd import DSD
from kd.losses.relation.ickd import ICKD
from kd.losses.relation.ifvd import IFVD
from kd.losses.relation.rkd import RKD
from kd.losses.relation.skd import SKD
from kd.losses.relation.sp import SP
from kd.losses.response.bpkd import BPKD
from kd.losses.response.dist import DIST
from kd.losses.response.dkd import DKD
from kd.losses.response.logit_standardized import LogitStandardized
from kd.losses.response.pixel_kl import PixelKL
from kd.losses.response.pseudo_label import PseudoLabel
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
    "BPKD",
    "CWD",
    "DIST",
    "DKD",
    "DSD",
    "ICKD",
    "IFVD",
    "MGD",
    "MSE",
    "NFD",
    "OHEM",
    "RKD",
    "SKD",
    "SP",
    "SRD",
    "VID",
    "CIRKDMemory",
    "CIRKDMiniBatch",
    "Combined",
    "Cosine",
    "CrossEntropy",
    "Dice",
    "DiceCE",
    "DiceFocal",
    "Focal",
    "Jaccard",
    "LogitStandardized",
    "Lovasz",
    "Masked",
    "PixelKL",
    "PseudoLabel",
    "ReviewKD",
    "Sampled",
    "Tversky",
]
