"""An encoder as ONNX: one graph from token ids to vectors, which onnxruntime runs. `interop.py` writes it.

Shapes: N sentences, L length, H hidden.
"""

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from simcse_lit.errors import UserError

MODEL = "model.onnx"
INSTALL = "Install it with: pip install 'simcse-lit[onnx]'"


class OnnxEncoder(nn.Module):
    """The graph of an ONNX folder behind our interface; it runs on the CPU.

    Args:
        path: the graph.

    Raises:
        UserError: onnxruntime is not installed, or cannot read the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            import onnxruntime
        except ImportError as error:
            raise UserError(f"checkpoint: {path.parent}: is an ONNX folder, which needs onnxruntime.\n{INSTALL}") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            digest = hashlib.sha256(path.read_bytes()).digest()
        except Exception as error:  # onnxruntime has a dozen kinds without a common base
            raise UserError(
                f"checkpoint: {path}: cannot be loaded: {str(error).splitlines()[0]}\nExport it again."
            ) from error
        # The weights are not torch's; their digest stands for them where an encoder is told from another.
        self.register_buffer("digest", torch.frombuffer(bytearray(digest), dtype=torch.uint8))

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return torch.device("cpu")

    def embed(self, input_ids_NL: Tensor, attention_mask_NL: Tensor) -> Tensor:
        """(N, L) ids and mask to (N, H)."""
        (vectors_NH,) = self._session.run(
            ["sentence_embedding"], {"input_ids": input_ids_NL.numpy(), "attention_mask": attention_mask_NL.numpy()}
        )
        return torch.from_numpy(vectors_NH)
