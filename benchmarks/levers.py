"""What each lever gives alone, against doing without all of them. Training: all-MiniLM-L6-v2 with the pooler `cls`,
batches of 64 NLI triplets, float32; a step is forward pass, loss, backward pass, clipping and AdamW. Encoding: mean
pooling, sentences of the STS sets in the order of the sets. A B A B in one run, medians. Memory is what the tensors
hold that the forward pass of a step keeps for its backward pass. `--compile` measures torch.compile instead.

Run: python benchmarks/levers.py [--compile]. Needs SIMCSE_DATA. `--compile` takes minutes to compile.
"""

import argparse
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from harness import Column, alternate, machine, ratio, real_data, report, summary, train_config
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from simcse_lit.data.collation import SentenceBatches
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.encoder.first_token import FirstToken
from simcse_lit.evaluation.suite import load_suite
from simcse_lit.objective.contrastive import contrastive_logits, contrastive_loss
from simcse_lit.training.build import build
from simcse_lit.training.chunking import encode_in_chunks, plan

PAIRS = 200
CHUNKS = "length chunks, trainer.chunk_overhead=96"
NONE = "none: padded together, AdamW"
Encode = Callable[[Tensor, Tensor], Tensor]
Without = Callable[[], AbstractContextManager[Any]]
FIRST_TOKEN: Without = partial(patch.object, FirstToken, "possible", False)  # every token to the end of the last layer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--compile", action="store_true")
    chosen = parser.parse_args()
    rows = training(chosen.rounds, chosen.compile) + ([] if chosen.compile else encoding(chosen.rounds))
    columns = [
        Column("work"),
        Column("lever"),
        Column("time", "s", ".3f"),
        Column("times faster than the first", "", ".2f"),
        Column("memory kept", "MiB", ".0f"),
        Column("of the first", "", ".2f"),
    ]
    name, title = ("levers_compile", "torch.compile on a CPU") if chosen.compile else ("levers", "Each lever alone")
    report(name, __doc__, title, columns, rows, machine("transformers"))


def training(rounds: int, compiled: bool) -> list[list[Any]]:
    triplets = ("data=file", f"data.train_file={real_data('nli/snli_triplets.csv')}", "pooler=cls", "projection=none")
    module, data = build(train_config("loss=sup", "data.batch_size=64", *triplets))
    batch = next(iter(data.train_dataloader()))
    encoder = module.encoder

    def step(encode: Encode, optimizer: torch.optim.Optimizer, *without: Without) -> float | None:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        with ExitStack() as switched_off:
            for lever in without:
                switched_off.enter_context(lever())
            vectors_NH = encode(batch["input_ids"].flatten(0, 1), batch["attention_mask"].flatten(0, 1))
        views = vectors_NH.unflatten(0, (-1, 3))
        contrastive_loss(contrastive_logits(*views.unbind(1), temperature=0.05)).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return None

    def chunked(overhead: int, network: Any, ids_NL: Tensor, mask_NL: Tensor) -> Tensor:
        return encode_in_chunks(network, ids_NL, mask_NL, plan(mask_NL, "always", overhead=overhead))

    def packed(ids_NL: Tensor, mask_NL: Tensor) -> Tensor:
        chunks = plan(mask_NL, "packed")
        return encode_in_chunks(encoder, ids_NL, mask_NL, chunks)

    def adamw(network: SentenceEncoder, *, fused: bool) -> torch.optim.Optimizer:
        return torch.optim.AdamW(network.parameters(), lr=1e-5, fused=fused)

    loop, fused = adamw(encoder, fused=False), adamw(encoder, fused=True)
    ways: dict[str, Callable[[], float | None]] = {NONE: partial(step, encoder, loop, FIRST_TOKEN)}
    ways["fused AdamW"] = partial(step, encoder, fused, FIRST_TOKEN)
    ways["the first token alone at the end of the last layer"] = partial(step, encoder, loop)
    ways[CHUNKS] = partial(step, partial(chunked, 96, encoder), loop, FIRST_TOKEN)
    for overhead in (32, 256):
        cut = partial(chunked, overhead, encoder)
        ways[f"the same, trainer.chunk_overhead={overhead}"] = partial(step, cut, loop, FIRST_TOKEN)
    ways["trainer.length_chunks=packed"] = partial(step, packed, loop, FIRST_TOKEN)
    ways[f"all: {CHUNKS}, the first token alone, fused AdamW"] = partial(step, partial(chunked, 96, encoder), fused)
    if compiled:
        ways = {name: way for name, way in ways.items() if name in (NONE, CHUNKS)}
        again = build(train_config("loss=sup", "data.batch_size=64", *triplets, "trainer.compile=default")).module
        again.encoder.load_state_dict(encoder.state_dict())
        own = adamw(again.encoder, fused=False)
        ways["trainer.compile=default"] = partial(step, again.encoder, own, FIRST_TOKEN)
        cut = partial(chunked, 96, again.encoder)
        ways[f"trainer.compile=default and {CHUNKS}"] = partial(step, cut, own, FIRST_TOKEN)
    for name, way in ways.items():
        if name.startswith(("none", "trainer.compile")):
            way()  # warms up, and compiles
    rows = table("a sup step, 64 triplets", alternate(ways, rounds, warm_up=False))
    return rows if compiled else [*rows, *memory(encoder, partial(chunked, 96, encoder), batch)]


def memory(encoder: SentenceEncoder, encode: Encode, batch: Any) -> list[list[Any]]:
    """Measure what a forward pass keeps besides the weights, with the last layer whole and with its first token alone."""
    weights = {weight.untyped_storage().data_ptr() for weight in encoder.parameters()}
    sizes = []
    for last_layer in (FIRST_TOKEN, nullcontext):
        kept: dict[int, Tensor] = {}

        def note(tensor: Tensor, kept: dict[int, Tensor] = kept) -> Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        with last_layer(), saved_tensors_hooks(note, lambda tensor: tensor):
            vectors_NH = encode(batch["input_ids"].flatten(0, 1), batch["attention_mask"].flatten(0, 1))
        sizes.append(
            sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in weights) / 2**20
        )
        del vectors_NH
    levers = (CHUNKS, f"{CHUNKS}, the first token alone")
    work = "what its forward pass keeps"
    return [[work, lever, None, None, size, size / sizes[0]] for lever, size in zip(levers, sizes, strict=True)]


@torch.inference_mode()
def encoding(rounds: int) -> list[list[Any]]:
    config = train_config("loss=unsup", "tasks=sts", f"senteval.dir={real_data('SentEval')}")
    module, data = build(config)
    encoder: SentenceEncoder = module.encoder.eval()
    pairs = [pair for task in load_suite(config).test for pair in zip(*[iter(task.sentences())] * 2, strict=True)]
    stands = [sentence for pair in pairs[:: len(pairs) // PAIRS] for sentence in pair]
    unique = list(dict.fromkeys(stands))

    def in_batches(sentences: Sequence[str], size: int) -> float | None:
        for start in range(0, len(sentences), size):
            batch = data.tokenizer(list(sentences[start : start + size]), padding=True, truncation=True, max_length=512,
                                   return_tensors="pt")  # fmt: skip
            encoder.embed(batch["input_ids"], batch["attention_mask"])
        return None

    def cut(sentences: Sequence[str], token_budget: int) -> float | None:
        batches = SentenceBatches(sentences, data.tokenizer, max_length=512, token_budget=token_budget)
        for number in range(len(batches)):
            batch = batches[number]
            encoder.embed(batch["input_ids"], batch["attention_mask"])
        return None

    def by_characters() -> float | None:
        return in_batches(sorted(stands, key=len), 128)

    ways: dict[str, Callable[[], float | None]] = {
        "none: batches of 128 as they stand": lambda: in_batches(stands, 128),
        "each sentence once": lambda: in_batches(unique, 128),
        "sorted by characters": by_characters,
        "sorted by tokens, cut where it saves padding, 4,096 tokens a batch": lambda: cut(stands, 4096),
        "the same, 16,384 tokens a batch": lambda: cut(stands, 16384),
        "all: each once, sorted, 4,096 tokens a batch": lambda: cut(unique, 4096),
    }
    return table(f"encode {len(stands):,} sentences, {len(unique):,} unique", alternate(ways, rounds, warm_up=False))


def table(work: str, seconds: dict[str, list[float]]) -> list[list[Any]]:
    base = next(iter(seconds.values()))
    return [[work, name, summary(times), ratio(base, times), None, None] for name, times in seconds.items()]


if __name__ == "__main__":
    main()
