"""A BERT with three layers that trains for a few steps, and batches and steps for it.

Shapes: B examples, V views, L length, D numbers of a vector.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from transformers import BertConfig, BertForMaskedLM, BertModel

from simcse_lit.encoder.denoising import Denoising
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.encoder.head import head as head_of
from simcse_lit.encoder.pooling import make_pooler
from simcse_lit.objective.step import Passes, Step, Vocabulary
from simcse_lit.objective.term import Objective, Term
from simcse_lit.training.beside import build_beside
from simcse_lit.training.chunking import Chunking
from simcse_lit.training.module import SimCSEModule

Make = Callable[[], Term]
Views = int | Sequence[str]
Part = str | Mapping[str, Any]  # a head or a pooler: its name or node
VOCABULARY = Vocabulary(size=100, mask_token_id=4, special_ids=(0, 1, 2))
SETTINGS: dict[str, Any] = {
    "seed": 0,
    "how": "never",
    "micro_batch_size": None,
    "dropout": False,
    "more": {},
    "pooler": "avg",
    "head": "mlp",
    "beside": {},
    "denoising": None,
}


def step_of(vectors_BVD: Tensor, roles: Sequence[str] | None = None, extras: Mapping[str, Tensor] | None = None) -> Step:
    """Build a step with these vectors, for terms that need no other pass of the encoder.

    Args:
        vectors_BVD: vectors, (B, V, D), both before and after the head.
        roles: role of each view; None for anchor, positive and hard negatives.
        extras: see `Step.extras`; None for made-up ones.
    """

    def nothing(*arguments: Any) -> Any:
        raise AssertionError("the term makes another pass of the encoder. Check it with check_term.")

    batch, views, _ = vectors_BVD.shape
    ids_BVL = torch.arange(batch * views * 4).reshape(batch, views, 4)
    given = (ids_BVL, torch.ones_like(ids_BVL), vectors_BVD, vectors_BVD)
    passes = Passes(nothing, nothing, nothing, nothing, nothing)
    return Step(*given, 0, 10, 0, passes, roles_of(roles or views), extras or extras_of(ids_BVL))


def roles_of(views: Views) -> tuple[str, ...]:
    """Return the roles of the views. A number means anchor, positive and hard negatives."""
    if isinstance(views, int):
        return ("anchor", "positive", *["hard_negative"] * (views - 2))
    return tuple(views)


def batch_of(views: Views, number: int = 0) -> dict[str, Any]:
    """Build a batch of four examples with different lengths.

    Args:
        views: number or roles of the views.
        number: seed of the batch.

    Returns:
        `input_ids` and `attention_mask`, (4, V, 30), and `extras`.
    """
    generator, count = torch.Generator().manual_seed(number), len(roles_of(views))
    length_N = torch.randint(3, 31, (4 * count,), generator=generator)
    mask_NL = torch.arange(30) < length_N[:, None]
    ids_NL = torch.randint(5, VOCABULARY.size, mask_NL.shape, generator=generator) * mask_NL
    ids_BVL, mask_BVL = ids_NL.unflatten(0, (4, count)), mask_NL.long().unflatten(0, (4, count))
    return {"input_ids": ids_BVL, "attention_mask": mask_BVL, "extras": extras_of(ids_BVL)}


def chunk_of(batch: Mapping[str, Any], processes: int, rank: int) -> dict[str, Any]:
    """Return the part of a batch that belongs to one of several processes."""
    return {
        name: chunk_of(part, processes, rank) if isinstance(part, Mapping) else part.chunk(processes)[rank]
        for name, part in batch.items()
    }


def extras_of(ids_BVL: Tensor) -> dict[str, Tensor]:
    """Build scores, two alternating labels, rows, and hashes of token ids, (B, V, L)."""
    number_B = torch.arange(len(ids_BVL))
    powers_L = 31 ** torch.arange(ids_BVL.shape[2]) % 1_000_003
    hashes_BV = (ids_BVL * powers_L).sum(2)
    return {"scores": 1 / (1 + number_B.float()), "labels": number_B % 2, "rows": number_B, "hashes": hashes_BV}


class Trained(nn.Module):
    """The training step of `SimCSEModule`, as a module that data parallelism can wrap."""

    def __init__(
        self,
        make: Make,
        *,
        seed: int,
        how: str,
        micro_batch_size: int | None,
        dropout: bool,
        more: Any,
        pooler: Part,
        head: Part,
        beside: Mapping[str, Any],
        denoising: Denoising | None,
        roles: tuple[str, ...],
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        term = make()
        config = BertConfig(
            vocab_size=VOCABULARY.size,
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=40,
            hidden_dropout_prob=0.1 if dropout else 0.0,
            attention_probs_dropout_prob=0.1 if dropout else 0.0,
        )
        backbone = BertForMaskedLM(config) if "mlm_head" in term.needs else BertModel(config)
        encoder = SentenceEncoder(backbone, make_pooler(pooler), head_of(head))
        encoder.denoising = denoising
        others = build_beside(beside, sharded=False)
        for one in others.values():
            one.setup(encoder, cast(Any, None))
        objective = Objective({"term": term, **more}, dict.fromkeys(["term", *more], 1.0))
        objective.setup(encoder.hidden, VOCABULARY, {name: one.encoder.hidden for name, one in others.items()})
        unused: Any = None
        self.trained = SimCSEModule(
            encoder,
            objective,
            chunking=Chunking(how, 96, micro_batch_size),
            optimisation=unused,
            scorer=unused,
            made_of={},
            seed=seed,
            beside=others,
            roles=roles,
        )
        cast(Any, self.trained)._log_loss = lambda name, loss: None

    def forward(self, batch: dict[str, Any]) -> Tensor:
        """Compute the loss of a batch."""
        return self.trained.training_step(self.trained.on_before_batch_transfer(batch, 0), 0)

    def after_step(self) -> None:
        """Do what the module does after a step of the optimiser."""
        self.trained.after_step()


def steps_of(
    make: Make,
    *,
    views: Views = 3,
    steps: int = 2,
    stop_after: int | None = None,
    batches: list[dict[str, Any]] | None = None,
    rank: int = 0,
    processes: int = 1,
    dtype: torch.dtype = torch.float64,
    half: bool = False,
    adam: bool = False,
    lr: float = 0.05,
    ranks: bool = False,
    **settings: Any,
) -> dict[str, Tensor]:
    """Train for a few steps, and return the losses, the gradients of the last step, and the buffers after it."""
    settings = {**SETTINGS, "roles": roles_of(views), **settings}
    model = Trained(make, **settings).to(dtype)
    found = dict[str, Tensor]()
    wrapped: nn.Module = model
    optimizer: torch.optim.Optimizer | None = None
    for number in range(steps if batches is None else len(batches)):
        if number == stop_after:
            state, model = model.state_dict(), Trained(make, **settings).to(dtype)
            model.load_state_dict(state)
            wrapped, optimizer = model, None
        if optimizer is None:
            wrapped = DistributedDataParallel(model, broadcast_buffers=False) if processes > 1 else model
            trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
            optimizer = (torch.optim.Adam if adam else torch.optim.SGD)(trainable, lr=lr)
        batch = batch_of(views, number) if batches is None else batches[number]
        part = chunk_of(batch, processes, rank)
        torch.manual_seed(number)
        with torch.autocast("cpu", torch.bfloat16) if half else nullcontext():
            loss = wrapped(part)
        optimizer.zero_grad()
        loss.backward()
        total = loss.detach().clone()
        if processes > 1:
            dist.all_reduce(total)
        found[f"loss {number}"] = total / processes
        gradients = {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}
        optimizer.step()
        model.after_step()
    if ranks:
        found["rank"] = effective_rank(model.trained.encoder)
    return found | gradients | {name: buffer.detach().clone() for name, buffer in model.named_buffers()}


@torch.no_grad()
def effective_rank(encoder: SentenceEncoder) -> Tensor:
    """Compute the exponential of the entropy of the singular values of the unit vectors: 1 if all have one direction."""
    training = encoder.training
    batch = batch_of(8, 99)
    vectors_ND = encoder.eval()(batch["input_ids"].flatten(0, 1), batch["attention_mask"].flatten(0, 1))
    encoder.train(training)
    values = torch.linalg.svdvals(F.normalize(vectors_ND.double(), dim=1))
    share = values / values.sum()
    return torch.exp(-(share * share.clamp(min=1e-12).log()).sum())
