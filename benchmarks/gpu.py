"""BERT-base on a GPU: step time, sentences a second, and the share of the card's measured matmul rate (MFU).

Run: python benchmarks/gpu.py [--steps N] [--compile]. Random weights and random tokens of realistic lengths, so neither the
Hub nor data are needed. Unsupervised: batches of 64 sentences; supervised: 512 triplets; bf16-mixed. The model's FLOPs are
6 x weights of the layers x real tokens, and 12 x layers x hidden x length per token for attention; work on padding is not
counted as done. A view at a time is how sentence-transformers' trainer pads the same batches. `--smoke` shows on a CPU that
the script runs, with a small encoder and small batches; its figures mean nothing.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from harness import report
from torch import Tensor
from transformers import BertConfig, BertModel

from simcse_lit.model.chunking import encode_in_chunks, plan
from simcse_lit.model.encoder import SentenceEncoder
from simcse_lit.objective.contrastive import contrastive_logits, contrastive_loss
from simcse_lit.reporting.run_folder import device_name, git_commit

WORK = {"unsup, batch 64": (64, 2, 22.0, 8.0), "sup, batch 512": (512, 3, 13.0, 5.0)}  # examples, views, mean, deviation
LONGEST = 32
Encode = Callable[[Tensor, Tensor], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--smoke", action="store_true")
    chosen = parser.parse_args()
    if not chosen.smoke and not torch.cuda.is_available():
        raise SystemExit("There is no GPU here. --smoke --steps 1 shows on a CPU that the script runs.")
    device = torch.device("cpu" if chosen.smoke else "cuda")
    torch.manual_seed(0)
    small = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
    backbone = BertModel(BertConfig(**small if chosen.smoke else {}), add_pooling_layer=False)
    encoder = SentenceEncoder(backbone, "cls", "mlp").to(device).train()
    if chosen.compile:
        encoder.backbone.compile(dynamic=True)
    rate = matmul_rate(device)
    rows = []
    for work, (full, views, mean, deviation) in WORK.items():
        examples = 8 if chosen.smoke else full
        lengths_BV = (torch.randn(examples, views) * deviation + mean).round().clamp(4, LONGEST).long()
        if views == 2:
            lengths_BV[:, 1] = lengths_BV[:, 0]
        mask_BVL = (torch.arange(int(lengths_BV.max())) < lengths_BV[..., None]).long()
        ids_BVL = torch.randint(1000, 30000, mask_BVL.shape) * mask_BVL
        done = flops(encoder, lengths_BV)
        padding = 1 - float(mask_BVL.sum()) / mask_BVL.numel()
        for name, encode in ways(encoder, mask_BVL, device).items():
            seconds = timed(encoder, encode, ids_BVL.to(device), mask_BVL.to(device), chosen.steps)
            rows.append([f"{work} (padding {padding:.2f})", name, f"{seconds * 1000:.1f}",
                         f"{examples * views / seconds:,.0f}", f"{done / seconds / rate:.1%}"])  # fmt: skip
    about = (
        f"{device_name(device)}, torch {torch.__version__}, commit {git_commit()}, measured {rate / 1e12:.0f} bf16 TFLOP/s"
    )
    columns = ["work", "way", "ms a step", "sentences/s", "MFU"]
    if chosen.smoke:
        print(*rows, sep="\n")
    else:
        report("gpu", "BERT-base, random weights, bf16-mixed", columns, rows, about)


def ways(encoder: SentenceEncoder, mask_BVL: Tensor, device: torch.device) -> dict[str, Encode]:
    """Padded together, in length chunks of several overheads, and as sentence-transformers does: a view at a time."""
    mask_NL = mask_BVL.flatten(0, 1)

    def chunked(overhead: int) -> Encode:
        chunks = [chunk.to(device) for chunk in plan(mask_NL, by_length=True, limit=None, overhead=overhead)]
        return lambda ids_NL, mask_NL: encode_in_chunks(encoder, ids_NL, mask_NL, chunks)

    def by_view(ids_NL: Tensor, mask_NL: Tensor) -> Tensor:
        views = mask_BVL.shape[1]
        longest = [int(mask_BVL[:, view].sum(1).max()) for view in range(views)]
        parts = [encoder(ids_NL[view::views, :width], mask_NL[view::views, :width]) for view, width in enumerate(longest)]
        return torch.stack(parts, dim=1).flatten(0, 1)

    chunkings = {f"length chunks, trainer.chunk_overhead={size}": chunked(size) for size in (1024, 4096, 16384)}
    return {"padded together": encoder, **chunkings, "a view at a time, as sentence-transformers pads": by_view}


def timed(encoder: SentenceEncoder, encode: Encode, ids_BVL: Tensor, mask_BVL: Tensor, steps: int) -> float:
    """Median seconds of a step: forward pass, loss, backward pass, clipping, fused AdamW."""
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-5, fused=True)
    seconds = []
    for _ in range(steps + 3):  # the first three warm up, and compile
        _wait(ids_BVL.device)
        start = time.perf_counter()
        with torch.autocast(ids_BVL.device.type, torch.bfloat16):
            vectors_NH = encode(ids_BVL.flatten(0, 1), mask_BVL.flatten(0, 1))
        views = vectors_NH.unflatten(0, ids_BVL.shape[:2]).unbind(1)
        contrastive_loss(contrastive_logits(*views, temperature=0.05)).backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        _wait(ids_BVL.device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[3:])


def flops(encoder: SentenceEncoder, lengths_BV: Tensor) -> float:
    """Floating-point operations of a step's forward and backward pass over real tokens."""
    config = encoder.backbone.config
    weights = sum(p.numel() for name, p in encoder.backbone.named_parameters() if "encoder.layer" in name and p.ndim == 2)
    attention = 12 * config.num_hidden_layers * config.hidden_size * float((lengths_BV**2).sum())
    return 6 * weights * float(lengths_BV.sum()) + attention


def matmul_rate(device: torch.device) -> float:
    """The device's bf16 matmul rate, in FLOP/s: the best of ten products of square matrices."""
    size = 8192 if device.type == "cuda" else 512
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    multiply = partial(torch.mm, left, right)
    best = float("inf")
    for _ in range(12):
        _wait(device)
        start = time.perf_counter()
        multiply()
        _wait(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
