"""medvip: classify medical images with visual symptoms in plain words (ViP, arXiv 2409.00341)."""

__version__ = "0.1.0"
