"""simcse-lit: train, ablate, evaluate and use SimCSE sentence encoders, on PyTorch Lightning and Hydra.

`import simcse_lit` imports nothing heavy; torch comes with the first of the names below that is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simcse_lit.formats.export import load_export
    from simcse_lit.from_python import build, compose, save_export
    from simcse_lit.retrieval.index import Index
    from simcse_lit.simcse import SimCSE

__version__ = "0.1.0"
__all__ = ["Index", "SimCSE", "build", "compose", "load_export", "save_export"]

_HOMES = {
    "Index": "simcse_lit.retrieval.index",
    "SimCSE": "simcse_lit.simcse",
    "build": "simcse_lit.from_python",
    "compose": "simcse_lit.from_python",
    "load_export": "simcse_lit.formats.export",
    "save_export": "simcse_lit.from_python",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
