"""`data.views`: any views in any order, with a role each; the columns are a short form of it."""

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from simcse_lit.config.resolvers import local_path
from simcse_lit.config.schema import TrainConfig
from simcse_lit.data.datamodule import SimCSEDataModule
from simcse_lit.data.streaming import StreamedBatches
from simcse_lit.errors import UserError
from simcse_lit.objective.info_nce import InfoNCE
from simcse_lit.testing import step_of
from simcse_lit.training.build import build
from tests.conftest import Cli, metrics, train_config
from tests.views.encoded import encoded

TRIPLETS = ("loss=sup", "model=tiny", "data=samples", "data.batch_size=8")
SHORT = ("trainer=cpu", "senteval.from_hub=false", "tasks=[]", "tasks@dev=samples-dev", "analyses=[]", "demo.queries=[]")
ROLES = {"sent0": "anchor", "sent1": "positive", "hard_neg": "hard_negative"}


def listed(*views: tuple[str, str]) -> str:
    return f"data.views=[{','.join(f'{{column: {column}, role: {role}}}' for column, role in views)}]"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(local_path("pkg://simcse_lit/data/samples/tiny", "test"))  # type: ignore[return-value]


def module_of(config: TrainConfig, tokenizer: PreTrainedTokenizerFast, cache: Path) -> SimCSEDataModule:
    config.data.cache_dir = str(cache)
    views = encoded(config.data, tokenizer, config.augmentation.makers)
    return SimCSEDataModule(config.data, tokenizer, dev=[], test=[], token_budget=1, seed=7, views=views)


def first_batch(config: TrainConfig, tokenizer: PreTrainedTokenizerFast, cache: Path) -> dict[str, Any]:
    return next(iter(module_of(config, tokenizer, cache).train_dataloader()))


@pytest.mark.parametrize("order", list(permutations(ROLES)))
def test_views_stand_in_the_batch_as_listed_and_the_loss_is_that_of_the_columns(
    order: tuple[str, ...], tokenizer: PreTrainedTokenizerFast, cache_dir: Path
) -> None:
    short = first_batch(train_config(*TRIPLETS), tokenizer, cache_dir)
    listing = train_config(*TRIPLETS, listed(*((column, ROLES[column]) for column in order)))
    batch = first_batch(listing, tokenizer, cache_dir)
    places = [order.index(column) for column in ROLES]
    assert torch.equal(batch["input_ids"][:, places], short["input_ids"])
    vectors_BVD = torch.randn(5, 3, 8)
    expected = InfoNCE(0.05, hard_negative_weight=0.3)(step_of(vectors_BVD))
    term = InfoNCE(0.05, hard_negative_weight=0.3)
    in_order_BVD = torch.stack([vectors_BVD[:, list(ROLES).index(column)] for column in order], 1)
    assert torch.equal(term(step_of(in_order_BVD, [ROLES[column] for column in order])), expected)


def test_views_of_one_text_that_nothing_changes_are_tokenised_once(
    tokenizer: PreTrainedTokenizerFast, cache_dir: Path
) -> None:
    crop = "{column: sent0, role: extra, makers: [{_target_: simcse_lit.views.augmentation.Crop, rate: 0.5}]}"
    views = f"[{{column: sent0, role: anchor}}, {crop}, {{column: sent0, role: positive}}]"
    data = module_of(train_config(*TRIPLETS, "data.columns=[sent0]", f"data.views={views}"), tokenizer, cache_dir)
    assert set(data.corpus.dataset.column_names) == {"view0", "text0"}
    ids = next(iter(data.train_dataloader()))["input_ids"]
    assert torch.equal(ids[:, 0], ids[:, 2]) and not torch.equal(ids[:, 0], ids[:, 1])
    assert data.summary()["duplicates"].keys() == {"texts"}


def test_every_view_draws_of_its_own(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("".join(f"{number} the water of a river is cold and deep\n" for number in range(8)))
    maker = "makers: [{_target_: simcse_lit.views.augmentation.DeleteWords, rate: 0.5}]"
    views = f"[{{column: text, role: anchor, {maker}}}, {{column: text, role: positive, {maker}}}]"
    asked = ("model=tiny", "data=file", f"data.train_file={tmp_path}/a.txt", f"data.views={views}", "data.batch_size=8")
    batch = first_batch(train_config(*asked), tokenizer, tmp_path)
    assert not torch.equal(batch["input_ids"][:, 0], batch["input_ids"][:, 1])
    stream = train_config(*asked, "data=stream", "trainer.max_steps=1", "data.shuffle_buffer=1")
    streamed = next(iter(StreamedBatches(stream.data, encoded(stream.data, tokenizer), seed=1)))["input_ids"]
    assert streamed.shape[1] == 2 and not torch.equal(streamed[:, 0], streamed[:, 1])


@given(st.integers(1, 3), st.integers(0, 2), st.sampled_from(["all", "negatives"]), st.booleans())
@settings(deadline=None)
def test_the_loss_is_the_mean_over_the_positives_among_all_candidates(
    positives: int, hard_negatives: int, denominator: str, both: bool
) -> None:
    """Khosla et al. 2020, equation 2, written out."""
    roles = ["positive", *["hard_negative"] * hard_negatives, "anchor", *["positive"] * (positives - 1), "extra"]
    vectors_BVD = torch.randn(4, len(roles), 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    unit = torch.nn.functional.normalize(vectors_BVD, dim=2)
    places = [number for number, role in enumerate(roles) if role == "positive"]
    hard = [number for number, role in enumerate(roles) if role == "hard_negative"]
    anchor = roles.index("anchor")

    def row(own: torch.Tensor, mine: list[torch.Tensor], others: list[torch.Tensor]) -> float:
        exponents = [float(torch.exp(own @ each / 0.1)) for each in others]
        total = sum(exponents) + (sum(float(torch.exp(own @ each / 0.1)) for each in mine) if denominator == "all" else 0)
        return sum(float(torch.log(torch.tensor(total))) - float(own @ each / 0.1) for each in mine) / len(mine)

    forth = back = 0.0
    for i in range(4):
        others = [unit[j, place] for j in range(4) for place in places if j != i] + [
            unit[j, p] for j in range(4) for p in hard
        ]
        forth += row(unit[i, anchor], [unit[i, place] for place in places], others) / 4
        for place in places:
            anchors = [unit[j, anchor] for j in range(4) if j != i]
            back += row(unit[i, place], [unit[i, anchor]], anchors) / 4 / len(places)
    term = InfoNCE(0.1, denominator=denominator, directions="both" if both else "rows")
    loss = term(step_of(vectors_BVD, roles))
    torch.testing.assert_close(loss.item(), (forth + back) / 2 if both else forth, rtol=1e-5, atol=1e-5)


def test_a_role_that_no_view_has_is_named() -> None:
    step = step_of(torch.randn(2, 2, 4))
    assert step.places("soft_negative") == [] and step.places("positive") == [1]
    with pytest.raises(KeyError, match="no view is a soft_negative; the roles are anchor, positive"):
        step.of("soft_negative")


WRONG = [
    ([("sent0", "anchor"), ("sent2", "positive")], r"data\.views\.1\.column=sent2: is not in .*Did you mean sent"),
    ([("sent0", "anchor"), ("sent1", "positiv")], r"data\.views\.1\.role=positiv: not one of .*Did you mean positive\?"),
    ([("sent0", "anchor"), ("sent1", "anchor")], r"data\.views: 2 anchors and 0 positives"),
    (
        [("sent0", "anchor"), ("sent1", "positive")],
        r"hard_neg\]: no view reads hard_neg\. Write data\.columns=\[sent0,sent1\]",
    ),
]


@pytest.mark.parametrize(("views", "said"), WRONG)
def test_views_that_cannot_be_are_named(views: list[tuple[str, str]], said: str) -> None:
    with pytest.raises(UserError, match=said):
        train_config(*TRIPLETS, listed(*views))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("augmentation=crop", r"data\.views augmentation=crop: .*each view has its makers"),
        ("loss.hard_negative_weight=1", r"loss\.hard_negative_weight=1\.0: there are no hard negatives"),
        ("loss.encoders=2", r"loss\.encoders=2: the first encoder encodes the first view of data\.views"),
        ("data.next_sentences=1", r"data\.views data\.next_sentences"),
    ],
)
def test_what_goes_with_no_listed_views_is_named(more: str, said: str) -> None:
    views = listed(("text", "positive"), ("text", "anchor"))
    with pytest.raises(UserError, match=said):
        train_config("model=tiny", "data=file", "data.train_file=a.txt", views, more)


def test_a_term_may_need_a_soft_negative(tokenizer: PreTrainedTokenizerFast) -> None:
    term = "+loss.terms.soft={_target_: tests.views.test_views.OfSoftNegatives, temperature: 1}"
    views = listed(("sent0", "anchor"), ("sent1", "positive"), ("hard_neg", "soft_negative"))
    with pytest.raises(UserError, match=r"loss\.terms\.soft: needs soft negatives, but data\.columns=\[sent0,.* has none"):
        build(train_config(*TRIPLETS, *SHORT, term))
    module = build(train_config(*TRIPLETS, *SHORT, term, views)).module
    assert module.roles == ("anchor", "positive", "soft_negative")


class OfSoftNegatives(InfoNCE):
    needs = frozenset({"soft_negative"})


@pytest.mark.parametrize("stream", [(), ("data=stream", "data.train_file=pkg://simcse_lit/data/samples/triplets.csv")])
def test_the_columns_listed_as_views_train_to_the_same_numbers(
    warm_cli: Cli, tmp_path: Path, stream: tuple[str, ...]
) -> None:
    asked = (*TRIPLETS, *SHORT, *stream, "trainer.max_steps=2", "trainer.log_every_n_steps=1", "evaluation.before=false")
    losses = []
    for name, views in (("short", "data.views=null"), ("listed", listed(*ROLES.items()))):
        done = warm_cli(*asked, views, f"hydra.run.dir={name}")
        assert done.returncode == 0, done.stderr
        losses.append([metrics(tmp_path / name)[key] for key in ("train/loss", "train/negative_cosine")])
    assert losses[0] == losses[1]


def test_one_dropout_mask_is_for_views_that_are_one_text() -> None:
    data = ("model=tiny", "loss=sup", "data=file", "data.train_file=a.jsonl", "loss.fixed_dropout=true")
    both = "[{column: text, role: anchor}, {column: text, role: positive}]"
    assert train_config(*data, "data.columns=[text]", f"data.views={both}").loss.fixed_dropout
    two_texts = listed(("text", "anchor"), ("other", "positive"))
    for columns in (("data.columns=[set,set]",), ("data.columns=[text,other]", two_texts)):
        with pytest.raises(UserError, match=r"loss\.fixed_dropout=true"):
            train_config(*data, *columns)
