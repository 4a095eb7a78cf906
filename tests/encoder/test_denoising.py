"""Template denoising against a loop over the sentences that runs each bare template alone."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertModel, MPNetConfig, MPNetModel, RobertaConfig, RobertaModel

from simcse_lit.encoder.denoising import Denoising, recorded_denoising
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.encoder.packing import pack
from simcse_lit.encoder.pooling import make_pooler
from simcse_lit.errors import UserError
from simcse_lit.objective.info_nce import InfoNCE
from simcse_lit.testing import check_term
from simcse_lit.testing.small_run import SETTINGS, Trained, batch_of
from simcse_lit.training.step_passes import passes_of
from tests.encoders import SIZES, small_bert

# Two templates with the mask token 4, and their sentences: one has a mask token itself, one has no token.
TEMPLATES = [([5, 7, 8], [9, 4, 6]), ([5, 7, 10], [9, 4, 6])]
TEXTS = [(0, [50, 51, 52]), (1, [60]), (0, [70, 4, 72]), (1, []), (1, [30, 31, 32, 33, 34])]
DENOISING, MASK = Denoising(3, 3), {"name": "mask", "behind": 1}
FIRST = {"bert": 0, "roberta": 2}  # position id of the first token; RoBERTa's follow the id of padding, 1


def batch(texts: list[tuple[int, list[int]]] = TEXTS) -> tuple[Tensor, Tensor]:
    rows = [[*TEMPLATES[template][0], *text, *TEMPLATES[template][1]] for template, text in texts]
    longest = max(map(len, rows)) + 2
    mask = torch.arange(longest) < torch.tensor([[len(row)] for row in rows])
    return torch.tensor([row + [1] * (longest - len(row)) for row in rows]), mask.long()


def encoder_of(kind: str = "bert", head: str = "mlp", dropout: float = 0.0, when: Any = "training") -> SentenceEncoder:
    torch.manual_seed(0)
    more: dict[str, Any] = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout, "pad_token_id": 1}
    backbone = RobertaModel(RobertaConfig(**SIZES, **more)) if kind == "roberta" else BertModel(BertConfig(**SIZES, **more))
    encoder = SentenceEncoder(backbone, make_pooler(MASK), head).double()
    encoder.denoising = Denoising(3, 3, when)
    return encoder


def by_hand(encoder: SentenceEncoder, first: int) -> Tensor:
    """The state at the mask token of each text, less that of its template alone at the positions that it has in the text."""
    found = []
    for template, text in TEXTS:
        before, after = TEMPLATES[template]
        positions = [first + place for place in range(6 + len(text))]
        whole = state(encoder, [*before, *text, *after], positions)
        found.append(whole - state(encoder, [*before, *after], positions[:3] + positions[-3:]))
    return torch.stack(found)


def state(encoder: SentenceEncoder, ids: list[int], positions: list[int]) -> Tensor:
    output = encoder.backbone(input_ids=torch.tensor([ids]), position_ids=torch.tensor([positions]))
    return output.last_hidden_state[0, -2]  # type: ignore[no-any-return]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", list(FIRST))
def test_vectors_and_gradients_are_those_of_a_loop_over_the_sentences(kind: str, packed: bool) -> None:
    ours, theirs = encoder_of(kind), encoder_of(kind)
    ids, mask = batch()
    vectors = ours(ids, mask, pack(mask) if packed else None)
    expected = theirs.project(by_hand(theirs, FIRST[kind]))
    torch.testing.assert_close(vectors, expected, rtol=0, atol=1e-12)
    weights = torch.randn(vectors.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for found in (vectors, expected):
        (found * weights).sum().backward()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert mine.grad is not None and other.grad is not None
        torch.testing.assert_close(mine.grad, other.grad, rtol=0, atol=1e-11)


@pytest.mark.parametrize("kind", list(FIRST))
def test_given_positions_move_with_their_tokens_into_packed_rows(kind: str) -> None:
    encoder, (ids, mask) = encoder_of(kind), batch()
    positions = torch.arange(ids.shape[1]).flip(0).expand_as(ids)
    moved = encoder.pooled(ids, mask, pack(mask), positions)
    torch.testing.assert_close(moved, encoder.pooled(ids, mask, None, positions), rtol=0, atol=1e-12)
    assert not torch.allclose(moved, encoder.pooled(ids, mask))


@pytest.mark.parametrize("kind", list(FIRST))
def test_a_text_without_tokens_is_its_bare_template(kind: str) -> None:
    vectors = encoder_of(kind, "none")(*batch()).detach()
    assert float(vectors[3].abs().max()) < 1e-14
    assert float(vectors[[0, 1, 2, 4]].abs().amax(1).min()) > 1e-3


def test_each_template_and_length_goes_through_the_encoder_once_and_differs() -> None:
    encoder, seen = encoder_of(), []
    ids, mask = batch()

    def pooled(*given: Tensor) -> Tensor:
        seen.append(encoder._placed(*given))
        return seen[-1]

    DENOISING(encoder.pooled(ids, mask), ids, mask, pooled)
    (bare,) = seen
    assert len(bare) == 4  # the two texts of three tokens share one
    distances = torch.cdist(bare, bare).detach() + torch.eye(4)
    assert float(distances.min()) > 1e-3


def test_dropout_is_drawn_for_the_bare_templates_too_and_after_the_sentences() -> None:
    encoder, (ids, mask) = encoder_of(head="none", dropout=0.1), batch()
    torch.manual_seed(1)
    alone = encoder.pooled(ids, mask)
    torch.manual_seed(1)
    vectors = encoder(ids, mask)
    bare = alone - vectors
    torch.testing.assert_close(bare[0], bare[2])  # one template and length
    assert not torch.allclose(vectors[3], torch.zeros(32, dtype=torch.float64))


def test_evaluation_subtracts_only_if_it_is_always_done() -> None:
    ids, mask = batch()
    plain, denoised = encoder_of().eval(), encoder_of(when="always").eval()
    assert torch.equal(plain.embed(ids, mask), plain.project(plain.pooled(ids, mask)))
    expected = by_hand(denoised, 0)
    torch.testing.assert_close(denoised.embed(ids, mask), denoised.project(expected))
    torch.testing.assert_close(denoised.embed(ids, mask, head=False), expected)


def test_padding_and_other_sentences_change_no_vector() -> None:
    encoder = encoder_of(when="always").eval()
    together = encoder.embed(*batch())
    for row, text in enumerate(TEXTS):
        torch.testing.assert_close(together[row], encoder.embed(*batch([text]))[0])


def test_it_is_exact_in_processes_micro_batches_packed_rows_and_resumed_runs() -> None:
    check_term(partial(InfoNCE, 0.05), pooler=MASK, denoising=Denoising(1, 2))


def test_encoders_in_a_step_are_denoised_in_micro_batches_and_without_dropout() -> None:
    settings = {**SETTINGS, "roles": ("anchor", "positive"), "pooler": MASK, "denoising": Denoising(1, 2), "dropout": True}
    trained = Trained(partial(InfoNCE, 0.05), **{**settings, "how": "always", "micro_batch_size": 1}).double().trained
    given = batch_of(2)
    ids, mask = given["input_ids"][:, 0], given["attention_mask"][:, 0]
    tokens = given["input_ids"], given["attention_mask"]
    passes = passes_of(trained.encoder, {}, trained.chunking, *tokens, [], {})
    found = passes.encode(ids, mask, dropout=False)
    torch.testing.assert_close(found, trained.encoder.eval()(ids, mask))


def test_only_denoising_in_use_is_recorded_and_a_damaged_record_is_told() -> None:
    assert "denoising" not in encoder_of().record()
    assert recorded_denoising(encoder_of(when="always").record()) == Denoising(3, 3, "always")
    assert recorded_denoising({}) is None
    for damaged in ("always", {"before": 3}, {"before": 3, "after": "3"}):
        with pytest.raises(ValueError, match="how many tokens"):
            recorded_denoising({"denoising": damaged})


def test_a_head_behind_a_denoised_vector_is_not_stored_as_the_pooler_of_the_backbone() -> None:
    encoder = SentenceEncoder(small_bert(), "cls", "mlp")
    assert encoder.stored_as_pooler
    encoder.denoising = Denoising(1, 1, "always")
    assert not encoder.stored_as_pooler


def test_a_backbone_without_known_position_ids_is_refused() -> None:
    encoder = SentenceEncoder(MPNetModel(MPNetConfig(**SIZES)), make_pooler(MASK), "none")
    encoder.denoising = DENOISING
    with pytest.raises(UserError, match=r"position ids of mpnet are not known\. .*\nor use one of albert, bert,"):
        encoder(*batch())
