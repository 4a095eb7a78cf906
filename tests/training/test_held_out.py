"""Masked language modelling alone: one view, no sentence vectors, and the loss and accuracy of held-out text."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from simcse_lit.data import held_out as held_out_module
from simcse_lit.data.held_out import MaskedBatches, held_out_rows
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.errors import UserError
from simcse_lit.objective.mlm import IGNORED, MaskedLanguageModel, mask_tokens
from simcse_lit.objective.term import Objective
from simcse_lit.testing.small_run import VOCABULARY
from simcse_lit.training import scoring
from simcse_lit.training.build import Built, build
from tests.conftest import train_config
from tests.encoders import ragged_batch, small_bert
from tests.training.test_two_views import batch_of, module_of

TEXTS = Path(held_out_module.__file__).parent / "samples" / "wikipedia.txt"
MLM = ("loss=mlm", "model=tiny", f"data.train_file={TEXTS}", "data.batch_size=8")
LENGTHS = [9, 5, 7, 12]


@pytest.fixture(scope="module")
def built_with(cache_dir: Path) -> Callable[..., Built]:
    def made(*changes: str) -> Built:
        torch.manual_seed(0)
        return build(train_config(*MLM, f"data.cache_dir={cache_dir}", *changes))

    return made


def held_out_scores(built: Built) -> dict[str, float]:
    module = built.module.eval()
    module.scorer.start([])
    with torch.no_grad():
        for number, batch in enumerate(built.data.val_dataloader()):
            module.validation_step(batch, number)
    return module.scorer.dev(torch.device("cpu"))


def by_sentence(batches: MaskedBatches) -> list[tuple[list[int], list[int]]]:
    """Masked ids and labels of each sentence, without padding, in a fixed order."""
    found = []
    for batch in (batches[number] for number in range(len(batches))):
        for ids, mask, labels in zip(batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True):
            assert (labels[mask == 0] == IGNORED).all()
            found.append((ids[mask == 1].tolist(), labels[mask == 1].tolist()))
    return sorted(found)


def test_loss_and_accuracy_are_those_that_transformers_and_a_count_give(built_with: Callable[..., Built]) -> None:
    built = built_with("data.held_out=70", "evaluation.token_budget=300")
    model: Any = built.module.encoder.language_model
    total, right, tokens = 0.0, 0, 0
    model.eval()
    with torch.no_grad():
        for batch in built.data.val_dataloader():
            wanted = batch["labels"] != -100
            output = model(batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"])
            if wanted.any():  # a plain mean over nothing is NaN
                total += float(output.loss) * int(wanted.sum())
            right += int((output.logits.argmax(-1) == batch["labels"])[wanted].sum())
            tokens += int(wanted.sum())
    found = held_out_scores(built)
    assert tokens > 150
    assert found["mlm_loss"] == pytest.approx(total / tokens, rel=1e-6)
    assert found["mlm_accuracy"] == pytest.approx(100 * right / tokens, rel=1e-6)


def test_masks_are_the_same_for_every_seed_and_batch_and_draw_nothing_from_training(
    built_with: Callable[..., Built],
) -> None:
    found = list[list[tuple[list[int], list[int]]]]()
    for changes in (("seed=1",), ("seed=2", "evaluation.token_budget=200", "loss.mlm_probability=0.4")):
        data = built_with("data.held_out=50", *changes).data
        for _ in range(2):
            state = len(found)
            torch.manual_seed(state)
            loader = data.val_dataloader()
            assert isinstance(loader.dataset, MaskedBatches)
            found.append(by_sentence(loader.dataset))
            after = torch.rand(1)
            torch.manual_seed(state)
            assert torch.equal(after, torch.rand(1))
    assert all(each == found[0] for each in found) and len(found[0]) == 50


def test_ordinary_tokens_are_masked_and_the_others_are_what_the_text_has(built_with: Callable[..., Built]) -> None:
    built = built_with("data.held_out=400")
    tokenizer, loader = built.data.tokenizer, built.data.val_dataloader()
    assert isinstance(loader.dataset, MaskedBatches)
    texts = TEXTS.read_text(encoding="utf-8").splitlines()[-400:]
    plain = sorted(tokenizer(texts, truncation=True, max_length=64)["input_ids"])
    restored, chosen, ordinary = [], 0, 0
    for ids, labels in by_sentence(loader.dataset):
        restored.append([one if label == IGNORED else label for one, label in zip(ids, labels, strict=True)])
        special = [one in tokenizer.all_special_ids for one in restored[-1]]
        assert all(label == IGNORED for label, is_special in zip(labels, special, strict=True) if is_special)
        chosen, ordinary = chosen + sum(label != IGNORED for label in labels), ordinary + special.count(False)
    assert sorted(restored) == plain
    assert chosen / ordinary == pytest.approx(0.15, abs=0.01)


def test_the_last_rows_are_held_out_and_the_others_are_trained_on(built_with: Callable[..., Built]) -> None:
    data = built_with("data.held_out=100").data
    texts = TEXTS.read_text(encoding="utf-8").splitlines()
    ids = [tuple(row) for row in data.tokenizer(texts, truncation=True, max_length=64)["input_ids"]]
    seen = set()
    for batch in data.train_dataloader():
        assert batch["input_ids"].shape[1] == 1  # one view
        pairs = zip(batch["input_ids"][:, 0], batch["attention_mask"][:, 0], strict=True)
        seen |= {tuple(row[mask == 1].tolist()) for row, mask in pairs}
    assert seen == set(ids[:-100])
    assert data.summary()["held_out"] == 100 and data.summary()["examples"] == len(texts) - 100
    assert data.places_of(data.rows_of(0) or []) is not None


@pytest.mark.parametrize(("held_out", "rows"), [(0.05, 1), (0.26, 6), (0.5, 10), (1, 1), (19, 19)])
def test_a_share_is_rounded_up_and_a_number_is_exact(held_out: float, rows: int) -> None:
    assert held_out_rows(20, held_out) == rows


@pytest.mark.parametrize("held_out", [20, 1000, 0.99])
def test_a_row_must_be_left_to_train_on(held_out: float) -> None:
    with pytest.raises(UserError, match=r"data\.held_out=.*: data\.train_file has 20 usable rows.*\n.*data\.held_out=0\.05"):
        held_out_rows(20, held_out)


def test_a_batch_that_several_processes_scored_counts_once(
    built_with: Callable[..., Built], monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = built_with("data.held_out=10").module.scorer
    parts = [{"0": [4.0, 1.0, 2.0], "2": [3.0, 0.0, 1.0]}, {"1": [5.0, 2.0, 3.0], "0": [4.0, 1.0, 2.0]}]
    monkeypatch.setattr(scoring, "together", lambda work: parts)
    assert scorer.dev(torch.device("cpu")) == {"mlm_loss": 12 / 6, "mlm_accuracy": 100 * 3 / 6}


def test_a_loss_that_is_not_finite_and_text_without_masks_are_named(built_with: Callable[..., Built]) -> None:
    scorer = built_with("data.held_out=10").module.scorer
    for counts, said in (([torch.nan, 0.0, 2.0], "the loss of the held-out text is nan"), ([0.0, 0.0, 0.0], "no token")):
        scorer.start([])
        scorer.add_masked(0, 1, torch.tensor(counts))
        with pytest.raises(UserError, match=rf"data\.held_out: {said}"):
            scorer.dev(torch.device("cpu"))
    scorer.start([])
    scorer.add_masked(0, 3, torch.tensor([4.0, 1.0, 2.0]))
    with pytest.raises(UserError, match=r"data\.held_out: 1 of 3 batches of held-out text were scored"):
        scorer.dev(torch.device("cpu"))


def mlm_alone() -> Any:
    objective = Objective({"mlm": MaskedLanguageModel(0.4)}, {"mlm": 1.0})
    objective.setup(32, VOCABULARY)
    module = module_of(SentenceEncoder(small_bert(mlm=True), "cls", "none").double().eval())
    module.objective, module.roles = objective, ("anchor",)
    return module


def loss_of(module: Any) -> Tensor:
    loss: Tensor = module.training_step(module.on_before_batch_transfer(batch_of(ragged_batch(LENGTHS)), 0), 0)
    return loss


def test_a_step_has_the_loss_of_masked_language_modelling_and_encodes_the_sentences_once() -> None:
    module, calls = mlm_alone(), []
    module.encoder.backbone.register_forward_hook(lambda *arguments: calls.append(1))
    module.on_train_batch_start({}, 0)
    loss = loss_of(module)
    assert len(calls) == 1

    ids, mask = ragged_batch(LENGTHS)
    torch.manual_seed(module._step.seed("mlm"))
    special = torch.isin(ids, torch.tensor(VOCABULARY.special_ids))
    masked, labels = mask_tokens(
        ids, mask.bool() & ~special, mask_token_id=VOCABULARY.mask_token_id or 0, vocab_size=VOCABULARY.size, probability=0.4
    )
    logits = small_bert(mlm=True).eval()(masked, attention_mask=mask).logits
    expected = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)


def test_with_a_gradient_cache_the_gradient_is_the_same() -> None:
    found = []
    for how, size in (("never", None), ("always", 1), ("packed", 2)):
        module = mlm_alone()
        module.chunking = type(module.chunking)(how, 96, size)
        loss = loss_of(module)
        found.append(torch.autograd.grad(loss, [p for p in module.encoder.language_model.parameters() if p.requires_grad]))
    for other in found[1:]:
        for got, expected in zip(other, found[0], strict=True):
            torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


def test_every_weight_has_a_gradient_so_that_several_devices_need_not_wait() -> None:
    module = mlm_alone()
    loss_of(module).backward()
    assert all(weight.grad is not None for weight in module.parameters() if weight.requires_grad)


WRONG = [
    ("data.held_out=0", r"data\.held_out=0: loss=mlm selects the best checkpoint on held-out text"),
    ("data.held_out=-1", r"data\.held_out=-1: must be a share of the rows below 1, a number of rows, or 0"),
    ("data.held_out=1.5", r"data\.held_out=1\.5: must be a share"),
    ("data.held_out=inf", r"data\.held_out=inf: must be a share"),
    ("data=stream trainer.max_steps=9", r"data\.held_out=0\.05: a stream has no last rows to hold out\. Use data=file"),
    ("tasks@dev=samples-dev", r"tasks@dev=Pairs-dev: the held-out text selects the best checkpoint\. Remove tasks@dev"),
    ("loss=unsup data.held_out=9", r"data\.held_out=9: only masked language modelling alone has a held-out loss"),
    ("loss.terms.contrastive.weight=1", r"data\.views: 1 anchors and 0 positives"),
    ("loss.mlm_weight=0", r"data\.held_out=0\.05: only masked language modelling alone"),
    ("augmentation=crop", r"data\.views augmentation=crop"),
    ("data.columns=[a,b] data.train_file=pairs.csv", r"no view reads b"),
    ("loss.fixed_dropout=true", r"loss\.fixed_dropout=true"),
]


@pytest.mark.parametrize(("changes", "said"), WRONG)
def test_what_does_not_go_with_it_is_named(changes: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        train_config(*MLM, *changes.split())


def test_a_term_that_needs_positives_is_refused_with_one_view(built_with: Callable[..., Built]) -> None:
    term = "+loss.terms.align={_target_: simcse_lit.methods.align_uniform.AlignUniform, uniformity: 1.0}"
    with pytest.raises(UserError, match=r"loss\.terms\.align: needs positives"):
        built_with(term)


def test_a_batch_of_one_and_a_corpus_of_one_text_can_be_trained_on(built_with: Callable[..., Built], tmp_path: Path) -> None:
    (tmp_path / "same.txt").write_text("A river flows to the sea .\n" * 5)
    data = built_with(f"data.train_file={tmp_path}/same.txt", "data.held_out=1", "data.batch_size=1").data
    assert data.summary()["examples"] == 4


def test_rows_without_special_tokens_between_them_are_split_where_they_end() -> None:
    tokenizer: Any = build(train_config(*MLM)).data.tokenizer
    rows = [[2, 40, 41, 3], [2, 50, 3], [2, 60, 61, 62, 3]]
    batches = MaskedBatches(pa.array(rows, pa.list_(pa.int32())), tokenizer, token_budget=5)
    restored = [
        [one if label == IGNORED else label for one, label in zip(ids, labels, strict=True)]
        for ids, labels in by_sentence(batches)
    ]
    assert sorted(restored) == sorted(rows) and len(batches) == 3


def test_the_term_alone_on_two_views_still_trains_an_encoder_that_sts_selects(built_with: Callable[..., Built]) -> None:
    weights = ("loss.terms.contrastive.weight=0", "loss.mlm_weight=1", "senteval.from_hub=false", "tasks=[]")
    built = built_with("loss=unsup", *weights)
    assert built.suite.chosen_on == "Pairs-dev" and not built.module.trains_language_model
    assert built_with().module.trains_language_model
