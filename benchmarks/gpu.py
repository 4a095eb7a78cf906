"""A training step of BERT-base with random weights on a GPU, in bf16-mixed with dropout 0.1, against the model and the
MultipleNegativesRankingLoss of sentence-transformers without its trainer. Tokens are random, of realistic lengths. A
step is planning, copying to the GPU, forward pass, loss, backward pass, clipping and fused AdamW. The ways take ten
steps each in turn, and the clock is read when the GPU has finished them. MFU is the share of the card's measured bf16
matmul rate, the last column. It counts 6 x weights of the layers x real tokens, and 12 x layers x hidden x length per
token for attention; past attention in the last layer it counts the first token alone, which is all that `cls` reads.
Error is the largest difference of loss and gradient from rows padded together, relative to their norm, in float32 with
a small encoder without dropout.

Run: python benchmarks/gpu.py [--blocks N] [--work KIND] [--without WAY]. Needs neither the Hub nor data. `--smoke`
shows on a CPU that the script runs, with small encoders; its times mean nothing.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median

import torch
from harness import Column, machine, report
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from torch import Tensor, nn
from transformers import BertConfig, BertModel, BertTokenizerFast

from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.objective.contrastive import contrastive_logits, contrastive_loss
from simcse_lit.training.chunking import encode_in_chunks, plan

WORK = {"unsup, batch 64": (64, 2, 22.0, 8.0), "sup, batch 512": (512, 3, 13.0, 5.0)}  # examples, views, mean, deviation
LONGEST = 32
BATCHES = STEPS = 10
SMALL = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 128}
PEER = "sentence-transformers"
PLANS = {
    "padded together": {"how": "never"},
    "length_chunks=always chunk_overhead=4096": {"how": "always", "overhead": 4096},
    "length_chunks=packed": {"how": "packed"},
    "length_chunks=packed compile=default": {"how": "packed"},
    "length_chunks=packed compile=cuda_graphs": {"how": "packed"},
}
Batch = tuple[Tensor, Tensor]  # ids and mask, (B, V, L), on the host
Loss = Callable[[Tensor, Tensor], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=5, help="of ten steps, for each way")
    parser.add_argument("--work", choices=WORK, nargs="+", default=list(WORK))
    parser.add_argument("--without", choices=PLANS, nargs="*", default=[], help="ways to leave out: compiling takes minutes")
    parser.add_argument("--smoke", action="store_true")
    chosen = parser.parse_args()
    if not chosen.smoke and not torch.cuda.is_available():
        raise SystemExit("There is no GPU here. --smoke --blocks 1 shows on a CPU that the script runs.")
    device = torch.device("cpu" if chosen.smoke else "cuda")
    left_out = {*chosen.without, *(name for name in PLANS if device.type == "cpu" and "compile" in name)}
    plans = {name: how for name, how in PLANS.items() if name not in left_out}
    errors = {name: error_of(name, plans, device) for name in plans}
    print(*(f"{name}: {error:.1e} from padded rows" for name, error in errors.items()), sep="\n", flush=True)
    rate = matmul_rate(device)
    models = {name: encoder_of(name, BertConfig(**SMALL if chosen.smoke else {}), device) for name in plans}
    rows = []
    for work in chosen.work:
        full, views, mean, deviation = WORK[work]
        examples = 8 if chosen.smoke else full
        batches = [random_batch(examples, views, mean, deviation) for _ in range(BATCHES)]
        tokens = sum(int(mask.sum()) for _, mask in batches)
        padding = 1 - tokens / sum(mask.numel() for _, mask in batches)
        any_model = next(iter(models.values()))
        done = sum(flops(any_model, mask.sum(2)) for _, mask in batches)
        ways = {name: block(model, partial(loss_of, model, plans[name], device), batches) for name, model in models.items()}
        peer = MultipleNegativesRankingLoss(sentence_transformer(any_model.backbone).to(device).train())
        ways[PEER] = block(peer, partial(peer_loss_of, peer, device), batches)
        for way in ways.values():
            way()  # compiles, records, fills caches
            way()
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(chosen.blocks):
            for name, way in ways.items():
                seconds[name].append(timed(way, device))
        for name, taken in seconds.items():
            each = median(taken) / STEPS
            row = [
                work,
                padding,
                name,
                each * 1000,
                examples * views / each,
                100 * done / STEPS / each / rate,
                median(seconds[PEER]) / median(taken),
                errors.get(name),
                rate / 1e12,
            ]
            rows.append(row)
            print(row, flush=True)
    columns = [
        Column("work"),
        Column("padding", "", ".2f"),
        Column("way"),
        Column("step", "ms", ".1f"),
        Column("rate", "sentences/s", ",.0f"),
        Column("MFU", "%", ".1f"),
        Column(f"times faster than {PEER}", "", ".2f"),
        Column("error", "", ".0e"),
        Column("matmul", "TFLOP/s", ".0f"),
    ]
    if not chosen.smoke:
        about = machine("transformers", "sentence-transformers", device="cuda")
        report("gpu", __doc__, "A training step on a GPU, BERT-base, bf16-mixed", columns, rows, about)


def encoder_of(name: str, config: BertConfig, device: torch.device) -> SentenceEncoder:
    torch.manual_seed(0)
    encoder = SentenceEncoder(BertModel(config, add_pooling_layer=False), "cls", "mlp").to(device).train()
    encoder.compile_backbone(name.partition("compile=")[2] or "never")
    return encoder


def random_batch(examples: int, views: int, mean: float, deviation: float) -> Batch:
    lengths_BV = (torch.randn(examples, views) * deviation + mean).round().clamp(4, LONGEST).long()
    if views == 2:
        lengths_BV[:, 1] = lengths_BV[:, 0]
    mask_BVL = (torch.arange(int(lengths_BV.max())) < lengths_BV[..., None]).long()
    return torch.randint(1000, 30000, mask_BVL.shape) * mask_BVL, mask_BVL


def loss_of(encoder: SentenceEncoder, how: Mapping[str, object], device: torch.device, ids: Tensor, mask: Tensor) -> Tensor:
    """Compute the loss as `train` does: plan on the host, then copy everything to the device."""
    chunks = [chunk.to(device) for chunk in plan(mask.flatten(0, 1), **how)]  # type: ignore[arg-type]
    ids_NL, mask_NL = to_device(ids.flatten(0, 1), device), to_device(mask.flatten(0, 1), device)
    views = encode_in_chunks(encoder, ids_NL, mask_NL, chunks).unflatten(0, ids.shape[:2]).unbind(1)
    return contrastive_loss(contrastive_logits(*(view.float() for view in views), temperature=0.05))


def peer_loss_of(peer: nn.Module, device: torch.device, ids: Tensor, mask: Tensor) -> Tensor:
    """Compute the loss as sentence-transformers' trainer does: each view is padded to its own longest."""
    features = []
    for view in range(ids.shape[1]):
        longest = int(mask[:, view].sum(1).max())
        features.append({
            "input_ids": to_device(ids[:, view, :longest], device),
            "attention_mask": to_device(mask[:, view, :longest], device),
        })  # fmt: skip
    loss: Tensor = peer(features, labels=None)
    return loss


def sentence_transformer(backbone: nn.Module) -> SentenceTransformer:
    """Return a model of sentence-transformers with a copy of this backbone and the pooler `cls`."""
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = Path(folder) / "vocab.txt"
        vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{n}" for n in range(30517))]))
        BertTokenizerFast(str(vocabulary)).save_pretrained(folder)
        backbone.save_pretrained(folder)  # type: ignore[operator]
        transformer = Transformer(folder)
    return SentenceTransformer(modules=[transformer, Pooling(transformer.get_embedding_dimension(), "cls")])


def block(model: nn.Module, loss: Loss, batches: list[Batch]) -> Callable[[], None]:
    """Return a function that takes one training step on each batch."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    kind = next(model.parameters()).device.type

    def run() -> None:
        for ids, mask in batches:
            with torch.autocast(kind, torch.bfloat16):
                value = loss(ids, mask)
            value.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

    return run


def error_of(name: str, plans: Mapping[str, Mapping[str, object]], device: torch.device) -> float:
    """Return the largest difference of loss and gradients from rows padded together, relative to their norm, in float32."""
    config = BertConfig(**SMALL, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    padded, encoder = encoder_of("", config, device), encoder_of(name, config, device)
    encoder.load_state_dict(padded.state_dict())
    worst = 0.0
    for mean in (12.0, 20.0, 12.0, 20.0):  # other numbers of rows, and each twice
        batch = random_batch(16, 3, mean, 5.0)
        found = []
        for model, how in ((padded, PLANS["padded together"]), (encoder, plans[name])):
            loss = loss_of(model, how, device, *batch)
            loss.backward()
            gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
            found.append(torch.cat([loss.detach().view(1), gradient]))
            model.zero_grad()
        worst = max(worst, float((found[1] - found[0]).norm() / found[0].norm()))
    return worst


def flops(encoder: SentenceEncoder, lengths_BV: Tensor) -> float:
    """Count the floating-point operations of a step's forward and backward pass, those for padding left out."""
    config, layers = encoder.backbone.config, encoder.backbone.encoder.layer
    weights = matrices(layers)
    last = matrices(layers[-1]) - matrices(layers[-1].attention.self)  # past attention
    tokens, sentences = float(lengths_BV.sum()), lengths_BV.numel()
    attention = 12 * config.num_hidden_layers * config.hidden_size * float((lengths_BV**2).sum())
    return 6 * ((weights - last) * tokens + last * sentences) + attention


def matrices(module: nn.Module) -> int:
    """Count the numbers in a module's matrices."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.ndim == 2)


def matmul_rate(device: torch.device) -> float:
    """Measure the device's bf16 matmul rate, in FLOP/s: the best of twelve products of square matrices."""
    size = 8192 if device.type == "cuda" else 512
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / min(timed(partial(torch.mm, left, right), device) for _ in range(12))


def timed(function: Callable[[], object], device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    function()
    _wait(device)
    return time.perf_counter() - start


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
