"""simcse-lit: train, ablate, evaluate and use SimCSE sentence encoders, on PyTorch Lightning and Hydra.

Importing the package imports nothing heavy; each command imports torch once its configuration is known to be right.
"""

__version__ = "0.1.0"
