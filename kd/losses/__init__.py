"""Every loss, one import line each: distillation losses by what they read, then the supervised ones.

A distillation loss is called as `loss(student, teacher, labels)`, a supervised one as `loss(logits, labels)`.
"""

from kd.losses.feature.at import AT
from kd.losses.feature.cwd import CWD
from kd.losses.feature.mse import MSE
from kd.losses.response.pixel_kl import PixelKL
from kd.losses.supervised.cross_entropy import CrossEntropy

__all__ = ["AT", "CWD", "MSE", "CrossEntropy", "PixelKL"]
