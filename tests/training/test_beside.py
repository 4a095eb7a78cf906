"""Encoders beside the trained one, the queue of their vectors, and further passes of a step."""

from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from simcse_lit.config.schema import ModelConfig
from simcse_lit.encoder.backbone import load_backbone
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.errors import UserError
from simcse_lit.formats.export import export
from simcse_lit.formats.model_card import Provenance
from simcse_lit.methods.frozen import Frozen
from simcse_lit.objective.info_nce import InfoNCE
from simcse_lit.objective.queue import Queue
from simcse_lit.objective.step import Step
from simcse_lit.objective.term import Term
from simcse_lit.testing import check_term, step_of
from simcse_lit.testing.small_run import SETTINGS, Trained, batch_of, roles_of, steps_of
from simcse_lit.training.beside import Momentum, build_beside
from tests.conftest import Cli
from tests.encoders import small_bert

TARGET = "simcse_lit.training.beside"
MOMENTUM = {"slow": {"_target_": f"{TARGET}.Momentum", "decay": 0.9}}
SECOND = {"other": {"_target_": f"{TARGET}.Second"}}
TINY = ModelConfig("pkg://simcse_lit/data/samples/tiny", None, None, False, None, None, False, None)


def with_queue(size: int, encoder: str | None = None) -> InfoNCE:
    return InfoNCE(0.05, negatives={"queue": Queue(size, encoder=encoder)})


class Agreement(Term):
    """The mean squared distance of the anchors and what a second encoder makes of them."""

    encoders = ("other",)

    def forward(self, step: Step) -> Tensor:
        theirs_BD = step.passes.encode(step.ids_BVL[:, 0], step.mask_BVL[:, 0], encoder="other")
        return (step.of("anchor") - theirs_BD).square().sum(1).mean()


class Steady(Term):
    """The distance of the anchors from themselves without dropout."""

    def forward(self, step: Step) -> Tensor:
        still_BH = step.passes.encode(step.ids_BVL[:, 0], step.mask_BVL[:, 0], dropout=False, head=False)
        return (step.pooled_BVH[:, 0] - still_BH).square().sum(1).mean()


class OfRows(Term):
    """Passes one number a sentence through the chunks: the loss is the mean of number x length."""

    def forward(self, step: Step) -> Tensor:
        mask_NL = step.mask_BVL.flatten(0, 1)
        number_N = step.vectors_BVD.flatten(0, 1).sum(1)

        def part(mask_nl: Tensor, number_n: Tensor, packing: Any) -> Tensor:
            return (mask_nl.sum(1) * number_n).sum()

        return torch.stack(step.passes.in_chunks(part, mask_NL, rows=(number_N,))).sum() / len(mask_NL)


def test_a_queue_of_a_momentum_encoder_holds_everything_that_is_checked() -> None:
    check_term(partial(with_queue, 10, "slow"), beside=MOMENTUM)  # four keys a step: the ring wraps in the middle


def test_a_second_trained_encoder_holds_everything_that_is_checked() -> None:
    check_term(Agreement, beside=SECOND)


@pytest.mark.parametrize("make", [Steady, OfRows, partial(with_queue, 3)])
def test_micro_batches_and_packing_change_nothing_for_further_passes(make: Any) -> None:
    whole = steps_of(make, dropout=False)
    for how in ("always", "packed"):
        parts = steps_of(make, dropout=False, how=how, micro_batch_size=1)
        for name, value in whole.items():
            torch.testing.assert_close(parts[name], value, rtol=1e-10, atol=1e-12, msg=f"{how}, {name}")


def test_the_loss_counts_the_filled_keys_alone() -> None:
    queue = Queue(6)
    queue.setup(8, None)  # type: ignore[arg-type]
    term = InfoNCE(0.1, negatives={"queue": queue}).double()
    vectors = torch.randn(4, 2, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    older = torch.randn(4, 2, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def expected(keys_KD: Tensor) -> Tensor:
        unit = F.normalize(vectors, dim=-1)
        columns = torch.cat([unit[:, 1], F.normalize(keys_KD, dim=-1)])
        return F.cross_entropy(unit[:, 0] @ columns.T / 0.1, torch.arange(4))

    torch.testing.assert_close(term(step_of(vectors)), expected(vectors[:0, 1]))
    term.after_step(step_of(older))
    torch.testing.assert_close(term(step_of(vectors)), expected(older[:, 1]))
    term.after_step(step_of(vectors))  # eight keys into six places: the first two are gone
    torch.testing.assert_close(term(step_of(vectors)), expected(torch.cat([older[2:, 1], vectors[:, 1]])))


def test_a_momentum_encoder_is_the_average_that_its_decay_says_and_never_trained() -> None:
    model = Trained(
        partial(with_queue, 3, "slow"), **{**SETTINGS, "roles": roles_of(3), "beside": MOMENTUM, "dropout": True}
    ).double()
    slow, encoder = cast(Momentum, model.trained.beside["slow"]).encoder, model.trained.encoder
    before = {name: value.clone() for name, value in slow.state_dict().items()}
    assert all(torch.equal(value, encoder.state_dict()[name]) for name, value in before.items())
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(1.0)
    model(batch_of(3)).backward()
    model.after_step()
    for name, value in slow.named_parameters():
        torch.testing.assert_close(value.data, before[name] + 0.1)
        assert not value.requires_grad
    model.train()
    assert encoder.training and not slow.training
    assert "beside.slow.encoder.projection.dense.weight" in model.trained.state_dict()


def test_an_unknown_encoder_is_told_with_those_that_there_are() -> None:
    with pytest.raises(UserError, match=r"loss\.beside\.slow: there is no such encoder\. Known encoders: other"):
        steps_of(partial(with_queue, 3, "slow"), beside=SECOND)


def test_a_frozen_encoder_gives_its_own_vectors_and_is_in_no_checkpoint(tmp_path: Any) -> None:
    torch.manual_seed(3)
    backbone, tokenizer = load_backbone(TINY, mlm=False)
    teacher = SentenceEncoder(backbone, "avg", "none").eval()
    export(teacher, tokenizer, tmp_path / "export", max_length=32, provenance=Provenance("base", None))
    frozen = Frozen(str(tmp_path / "export"))
    frozen.setup(teacher, tokenizer)
    assert not frozen.state_dict() and not list(frozen.parameters())
    batch = tokenizer(["A man plays.", "It rains."], padding=True, return_tensors="pt")
    torch.testing.assert_close(
        frozen.encoder.embed(batch["input_ids"], batch["attention_mask"]),
        teacher.embed(batch["input_ids"], batch["attention_mask"]),
    )
    assert frozen.tokenizer is None  # it reads the token ids of the trained encoder


@pytest.mark.parametrize(
    ("nodes", "sharded", "message"),
    [
        ({"slow": {"_target_": f"{TARGET}.Momentum", "decay": 1.0}}, False, "loss.beside.slow: .*decay=1.0: must be"),
        ({"slow": {"_target_": f"{TARGET}.Momentum"}}, False, "loss.beside.slow.decay: has no value"),
        ({"slow": {"_target_": "torch.nn.Identity"}}, False, "loss.beside.slow._target_=torch.nn.Identity: is not a"),
        ({"slow": "momentum"}, False, "loss.beside.slow=momentum: must be a group"),
        ({"no name": MOMENTUM["slow"]}, False, "loss.beside.no name: an encoder cannot have this name"),
        (MOMENTUM, True, r"loss.beside.slow: Momentum needs whole parameters(.|\n)*trainer=ddp"),
    ],
)
def test_what_cannot_be_built_is_told_with_its_key(nodes: dict[str, Any], sharded: bool, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_beside(nodes, sharded=sharded)


def test_null_is_no_encoder_and_a_frozen_one_goes_with_fsdp() -> None:
    frozen = {"_target_": "simcse_lit.methods.frozen.Frozen", "checkpoint": "X"}
    assert list(build_beside({"a": None, "b": frozen}, sharded=True)) == ["b"]


def test_a_copy_has_hooks_of_its_own() -> None:
    encoder = SentenceEncoder(small_bert(), "cls", "mlp")
    momentum = Momentum(0.5)
    momentum.setup(encoder, None)  # type: ignore[arg-type]
    batch = batch_of(2)
    ids, mask = batch["input_ids"].flatten(0, 1), batch["attention_mask"].flatten(0, 1)
    torch.testing.assert_close(momentum.encoder.double()(ids, mask), encoder.double().eval()(ids, mask))


QUEUE = (
    "+loss.beside.slow._target_=simcse_lit.training.beside.Momentum",
    "+loss.beside.slow.decay=0.9",
    "+loss.terms.contrastive.negatives.queue._target_=simcse_lit.objective.queue.Queue",
    "+loss.terms.contrastive.negatives.queue.size=48",
    "+loss.terms.contrastive.negatives.queue.encoder=slow",
)
SMALL = (
    *("model=tiny", "data=samples", "data.batch_size=32", "trainer=cpu", "trainer.max_steps=3", "senteval.from_hub=false"),
    *("tasks=[]", "tasks@dev=samples-dev", "evaluation.before=false", "evaluation.test=false", "analyses=[]"),
)


def test_the_command_line_takes_both_and_the_export_holds_neither(warm_cli: Cli, tmp_path: Path) -> None:
    done = warm_cli(*SMALL, *QUEUE, "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    kept = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert int(kept["objective.terms.contrastive.negatives.queue.written"]) == 96
    assert any(name.startswith("beside.slow.encoder.backbone.") for name in kept)
    assert not any("slow" in name for name in load_file(tmp_path / "run" / "export" / "model.safetensors"))


def test_a_missing_encoder_is_told_before_a_model_is_loaded(warm_cli: Cli) -> None:
    refused = warm_cli(*SMALL, *QUEUE[2:], "model.name_or_path=nowhere")
    assert refused.returncode == 1
    assert "loss.terms.contrastive: needs the encoder loss.beside.slow, which is not configured." in refused.stderr
    for way in ("simcse_lit.methods.frozen.Frozen +loss.beside.slow.checkpoint=", "simcse_lit.training.beside.Momentum"):
        assert f"+loss.beside.slow._target_={way}" in refused.stderr


def test_a_learning_rate_of_its_own_is_a_multiple_of_the_runs(warm_cli: Cli, tmp_path: Path) -> None:
    asked = ("+loss.beside.slow.lr_scale=1", "loss.terms.contrastive.learn_temperature=true", "optimizer.weight_decay=0.1")
    done = warm_cli(*SMALL, *QUEUE, *asked, "+loss.terms.contrastive.lr_scale=10", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    kept = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["optimizer_states"][0]
    usual, faster = kept["param_groups"]
    assert faster["lr"] == pytest.approx(10 * usual["lr"]) and len(faster["params"]) == 1
    assert faster["initial_lr"] == pytest.approx(10 * usual["initial_lr"])
    assert (usual["weight_decay"], faster["weight_decay"]) == (0.1, 0)  # it would pull a temperature to 1
    refused = warm_cli(*SMALL, "+loss.terms.contrastive.lr_scale=0", "hydra.run.dir=other")
    assert refused.returncode == 1
    assert "loss.terms.contrastive.lr_scale=0: must be a finite number greater than 0." in refused.stderr
