"""Methods with a queue, other encoders or batch statistics: runs that are stopped, and runs of two processes."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

from simcse_lit.config.resolvers import local_path
from tests.cli.test_resume import interrupted, of_a_file, outcome, run
from tests.conftest import Cli

TINY = local_path("pkg://simcse_lit/data/samples/tiny", "test")
WORDS = ["water", "river", "stone", "house", "green", "early", "people", "market", "winter", "music", "letter", "garden"]
FIXED = """
from simcse_lit.methods.diffcse import ReplacedTokens
from simcse_lit.objective.mlm import IGNORED, Masking

class FixedMasking(Masking):
    def forward(self, ids_NL, mask_NL):
        chosen_NL = (ids_NL % 3 == 0) & mask_NL.bool()
        return ids_NL.masked_fill(chosen_NL, self.mask_token_id), ids_NL.masked_fill(~chosen_NL, IGNORED)

class Fixed(ReplacedTokens):
    def __init__(self, rate, **settings):
        super().__init__(rate, **settings)
        assert type(self.masking) is Masking
        self.masking = FixedMasking(rate)
"""
ASKED = {
    "esimcse": ("loss.terms.contrastive.negatives.queue.size=48", "augmentation.rate=0.6"),
    "rankcse": ("loss.beside.large=null", "loss.terms.distill.teachers.large=0", "loss.beside.base.checkpoint={}"),
    "diffcse": ("loss.beside.generator.checkpoint={}", "loss.terms.replaced.weight=0.5"),
}
KEPT = {
    "esimcse": "beside.momentum.encoder.backbone.",
    "rankcse": "encoder.projection.",
    "diffcse": "beside.discriminator.encoder.backbone.",
}
# Each process has masks of its own. AdamW would make a step of a rounding error where a gradient is next to nothing.
COMPARED = (
    *("model.dropout=0", "optimizer._target_=torch.optim.SGD", "~optimizer.extra.betas", "~optimizer.extra.eps"),
    *("optimizer.lr=0.1", "trainer.max_steps=8"),
)


@pytest.fixture
def settings(tmp_path: Path) -> Any:
    """Settings of a method: a run of 20 steps, two epochs, with a model of random weights as teacher and generator."""
    text, other = tmp_path / "train.txt", tmp_path / "other"
    lines = [" ".join(WORDS[(number * step) % 12] for step in (1, 5, 7, 11)) for number in range(100)]
    text.write_text("".join(f"{line} {number}\n" for number, line in enumerate(lines)))
    torch.manual_seed(1)
    BertForMaskedLM(BertConfig.from_pretrained(TINY)).save_pretrained(other)
    AutoTokenizer.from_pretrained(TINY).save_pretrained(other)
    return lambda method: (*of_a_file(text), f"loss={method}", *(asked.format(other) for asked in ASKED[method]))


@pytest.mark.long
@pytest.mark.parametrize("method", list(ASKED))
def test_a_run_that_is_stopped_within_an_epoch_ends_with_the_weights_of_one_that_is_not(
    method: str, cli: Cli, tmp_path: Path, settings: Any
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    done = run(cli, whole, f"hydra.run.dir={whole}", settings=settings(method))
    assert done.returncode == 0, done.stderr
    assert interrupted(cli, stopped, 13, signal.SIGTERM, settings=settings(method)).returncode == 128 + signal.SIGTERM
    continued = run(cli, stopped, f"resume={stopped}", "~callbacks.signal", settings=())
    assert continued.returncode == 0, continued.stderr
    assert outcome(stopped) == outcome(whole)
    state = torch.load(whole / "checkpoints" / "last.ckpt", weights_only=True)
    assert any(name.startswith(KEPT[method]) for name in state["state_dict"])
    assert not any(name.startswith(("beside.generator.", "beside.base.")) for name in state["state_dict"])
    trained = sum(len(group["params"]) for group in state["optimizer_states"][0]["param_groups"])
    of_others = ("encoder.", "objective.terms.", "beside.discriminator.")
    parameters = [name for name in state["state_dict"] if name.startswith(of_others) and "running_" not in name]
    assert trained == len([name for name in parameters if not name.endswith(("keys_KD", "written"))])
    own = "encoder.backbone."
    encoder = {name.removeprefix(own) for name in state["state_dict"] if name.startswith(own)}
    assert set(load_file(whole / "export" / "model.safetensors")) == encoder


@pytest.mark.long
@pytest.mark.parametrize("method", list(ASKED))
def test_two_processes_end_with_the_weights_of_one(method: str, warm_cli: Cli, tmp_path: Path, settings: Any) -> None:
    (tmp_path / "fixed.py").write_text(FIXED)
    fixed = ("loss.terms.replaced._target_=fixed.Fixed", "loss.beside.generator.dropout=false")
    drawn = fixed if method == "diffcse" else ()
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    weights = []
    for trainer in ("cpu", "ddp_cpu"):
        asked = (*COMPARED, *drawn, f"trainer={trainer}", f"hydra.run.dir={trainer}")
        done = warm_cli(*(each for each in settings(method) if each != "trainer=cpu"), *asked, env={"PYTHONPATH": path})
        assert done.returncode == 0, done.stderr
        weights.append(torch.load(tmp_path / trainer / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])
    one, two = weights
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-4, rtol=0, msg=name)
