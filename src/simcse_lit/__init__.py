"""simcse-lit: train, ablate, evaluate and use SimCSE sentence encoders, on PyTorch Lightning and Hydra.

Importing the package imports nothing heavy: each command imports torch once its configuration is known to be right, and
`SimCSE` when it loads an encoder.
"""

__version__ = "0.1.0"

from simcse_lit.simcse import SimCSE

__all__ = ["SimCSE"]
