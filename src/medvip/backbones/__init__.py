"""The frozen encoders behind one protocol: embedded, or any CLIP or SigLIP of Hugging Face."""

from medvip.backbones.loading import load_backbone
from medvip.backbones.protocol import Backbone, Tokens

__all__ = ["Backbone", "Tokens", "load_backbone"]
