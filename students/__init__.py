"""Networks that learn; any of them may teach too."""

from students.mobilenetv3_aspp import MobileNetV3SmallASPP

__all__ = ["MobileNetV3SmallASPP"]
