"""What is learned on the encoders: one file a method, registered by name in one place."""

from medvip.methods.biomedcoop import BiomedCoOp
from medvip.methods.clip_adapter import ClipAdapter
from medvip.methods.cocoop import CoCoOp
from medvip.methods.concept_bottleneck import ConceptBottleneck
from medvip.methods.coop import CoOp
from medvip.methods.gda import GDA
from medvip.methods.kgcoop import KgCoOp
from medvip.methods.linear_probe import LinearProbe
from medvip.methods.lp_plus_plus import LPPlusPlus
from medvip.methods.majority import Majority
from medvip.methods.maple import MaPLe
from medvip.methods.method import Method
from medvip.methods.nearest_class_mean import NearestClassMean
from medvip.methods.prograd import ProGrad
from medvip.methods.registry import METHODS, create_method, describe_options, find_method, options_of
from medvip.methods.ss_text import SSText
from medvip.methods.supervised import FineTuned, FromScratch
from medvip.methods.tip_adapter import TipAdapter, TipAdapterF
from medvip.methods.vip import ViP
from medvip.methods.vip_ablations import ViPContextMax, ViPContextMean, ViPMerge
from medvip.methods.vip_whitened import ViPWhitened
from medvip.methods.vpt import VariationalPrompts
from medvip.methods.zero_shot import ZeroShotNames, ZeroShotSymptoms, ZeroShotSymptomsMax

__all__ = [
    "GDA",
    "METHODS",
    "BiomedCoOp",
    "ClipAdapter",
    "CoCoOp",
    "CoOp",
    "ConceptBottleneck",
    "FineTuned",
    "FromScratch",
    "KgCoOp",
    "LPPlusPlus",
    "LinearProbe",
    "MaPLe",
    "Majority",
    "Method",
    "NearestClassMean",
    "ProGrad",
    "SSText",
    "TipAdapter",
    "TipAdapterF",
    "VariationalPrompts",
    "ViP",
    "ViPContextMax",
    "ViPContextMean",
    "ViPMerge",
    "ViPWhitened",
    "ZeroShotNames",
    "ZeroShotSymptoms",
    "ZeroShotSymptomsMax",
    "create_method",
    "describe_options",
    "find_method",
    "options_of",
]
