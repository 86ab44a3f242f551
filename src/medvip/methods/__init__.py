"""What is learned on the frozen encoders: one file a method, registered by name in one place."""

from medvip.methods.method import Method
from medvip.methods.registry import METHODS, create_method
from medvip.methods.vip import ViP
from medvip.methods.zero_shot import ZeroShotNames, ZeroShotSymptoms, ZeroShotSymptomsMax

__all__ = [
    "METHODS",
    "Method",
    "ViP",
    "ZeroShotNames",
    "ZeroShotSymptoms",
    "ZeroShotSymptomsMax",
    "create_method",
]
