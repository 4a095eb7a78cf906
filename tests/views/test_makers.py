"""Makers of three levels: what they are given, in which order they run, and what decides their draws."""

import pickle
from collections.abc import Mapping, Sequence
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from simcse_lit.config import CONF_DIR
from simcse_lit.config.replay import TARGET
from simcse_lit.config.resolvers import local_path
from simcse_lit.data.datamodule import SimCSEDataModule
from simcse_lit.data.streaming import StreamedBatches
from simcse_lit.errors import UserError
from simcse_lit.seeds import derived_seed
from simcse_lit.views.augmentation import DeleteWords, crop
from simcse_lit.views.encoded import EncodedViews
from simcse_lit.views.makers import DeviceMaker, TextMaker, TokenMaker, on_device
from simcse_lit.views.view import View, built_makers, resolve
from tests.conftest import Cli, train_config
from tests.views.encoded import encoded

HERE = __name__
TEXTS = [f"{number} the water of a river is cold and deep" for number in range(10)]


class Loud(TextMaker):
    def __call__(self, text: str, rng: Random) -> str:
        return f"{text} {text}"


class Marked(TextMaker):
    """Puts a number that it draws before the text."""

    def __call__(self, text: str, rng: Random) -> str:
        return f"{rng.randrange(10**6)} {text}"


class Doubled(TokenMaker):
    """Repeats every token."""

    def setup(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.special = set(tokenizer.all_special_ids)

    def __call__(self, ids: list[int], rng: Random) -> list[int]:
        assert not self.special & set(ids)
        return [token for each in ids for token in (each, each)]


class Shuffled(TokenMaker):
    def __call__(self, ids: list[int], rng: Random) -> list[int]:
        return rng.sample(ids, len(ids))


class Raised(DeviceMaker):
    def __call__(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        return ids_BL + mask_BL


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(local_path("pkg://simcse_lit/data/samples/tiny", "test"))  # type: ignore[return-value]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "mine.txt").write_text("\n".join(TEXTS) + "\n")
    return tmp_path / "mine.txt"


def node(maker: type, **arguments: Any) -> Mapping[str, Any]:
    return {"_target_": f"{HERE}.{maker.__name__}", **arguments}


def made_ids(tokenizer: PreTrainedTokenizerFast, makers: Sequence[Any], texts: Sequence[str], length: int) -> Any:
    """The token ids of the positives, in a batch whose examples draw from their places."""
    for maker in makers:
        maker.setup(tokenizer)
    views = EncodedViews([View(0, "anchor"), View(0, "positive", None, tuple(makers))], tokenizer, length)
    made = views.made_ids({0: texts}, lambda example, view: Random(1000 * view + example))
    batch = views.stored_ids([(text,) for text in texts]) | made
    assert views.places == (0, 1) and list(batch) == ["view0", "view1"]
    assert batch["view0"].to_pylist() == tokenizer(list(texts), truncation=True, max_length=length)["input_ids"]
    return batch["view1"].to_pylist()


texts = st.lists(st.text("abc déf,1", min_size=1, max_size=30), min_size=1, max_size=4)


@given(texts, st.integers(4, 40))
@settings(deadline=None)
def test_tokens_are_changed_before_they_are_cut_and_get_special_tokens(lines: list[str], length: int) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(local_path("pkg://simcse_lit/data/samples/tiny", "test"))
    found = made_ids(tokenizer, [Doubled()], lines, length)
    for text, ids in zip(lines, found, strict=True):
        plain = tokenizer(text, add_special_tokens=False)["input_ids"]
        twice = [token for each in plain for token in (each, each)]
        assert ids == [tokenizer.cls_token_id, *twice[: length - 2], tokenizer.sep_token_id]


def test_a_text_maker_alone_is_tokenised_as_any_text(tokenizer: PreTrainedTokenizerFast) -> None:
    (ids,) = made_ids(tokenizer, [Loud()], ["a b c"], 7)
    assert ids == tokenizer("a b c a b c", truncation=True, max_length=7)["input_ids"]


def test_makers_run_in_order_and_share_the_draws_of_the_example(tokenizer: PreTrainedTokenizerFast) -> None:
    (ids,) = made_ids(tokenizer, [Marked(), Loud(), Shuffled()], ["b"], 64)
    rng = Random(1000)
    number = rng.randrange(10**6)
    plain = tokenizer(f"{number} b {number} b", add_special_tokens=False)["input_ids"]
    assert ids[1:-1] == rng.sample(plain, len(plain))


def test_device_makers_run_in_order_on_their_own_view() -> None:
    ids_BVL, mask_BVL = torch.zeros(2, 3, 4, dtype=torch.long), torch.ones(2, 3, 4, dtype=torch.long)
    changed_BVL = on_device({2: [Raised(), Raised()]}, ids_BVL, mask_BVL)
    assert changed_BVL[:, 2].eq(2).all() and changed_BVL[:, :2].eq(0).all() and ids_BVL.eq(0).all()
    assert on_device({}, ids_BVL, mask_BVL) is ids_BVL


def module_of(file: Path, cache: Path, tokenizer: PreTrainedTokenizerFast, *makers: Any) -> SimCSEDataModule:
    config = train_config(
        "model=tiny", "data=file", f"data.train_file={file}", "data.batch_size=4", f"data.cache_dir={cache}"
    )
    views = encoded(config.data, tokenizer, makers)
    return SimCSEDataModule(config.data, tokenizer, dev=[], test=[], token_budget=1, seed=7, views=views)


def test_the_positive_draws_from_seed_epoch_and_example_and_another_view_from_its_number_too(
    file: Path, cache_dir: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    """The seeds are those of version 0.1."""
    data = module_of(file, cache_dir, tokenizer, {"_target_": "simcse_lit.views.augmentation.Crop", "rate": 0.3})
    data.corpus.order.set_epoch(2)
    batch: Any = data.corpus
    found = batch.__getitems__([8, 3])["view1"].to_pylist()
    for place, ids in zip([8, 3], found, strict=True):
        expected = " ".join(crop(TEXTS[place].split(), 0.3, Random(derived_seed(7, 2, place))))
        assert tokenizer.decode(ids, skip_special_tokens=True) == expected
    assert data.corpus.generator(8, 0).random() == Random(derived_seed(7, 2, 8, 1)).random()
    assert data.corpus.generator(8, 2).random() == Random(derived_seed(7, 2, 8, 3)).random()
    assert len({data.corpus.generator(8, view).random() for view in range(4)}) == 4


def test_a_stream_draws_from_seed_batch_and_place(tokenizer: PreTrainedTokenizerFast, file: Path) -> None:
    asked = ("data=stream", f"data.train_file={file}", "trainer.max_steps=9", "data.batch_size=4", "data.shuffle_buffer=1")
    config = train_config("model=tiny", *asked)
    views = encoded(config.data, tokenizer, [node(Marked)])
    stream = pickle.loads(ForkingPickler.dumps(StreamedBatches(config.data, views, seed=3)))
    batches = iter(stream)
    for number in range(2):
        for place, row in enumerate(next(batches)["input_ids"]):
            anchor, positive = (str(tokenizer.decode(ids, skip_special_tokens=True)) for ids in row)
            marked = f"{Random(derived_seed(3, number, place)).randrange(10**6)} {anchor}"
            assert positive == tokenizer.decode(tokenizer(marked)["input_ids"], skip_special_tokens=True)


def test_examples_that_no_maker_changes_are_counted_at_the_level_of_tokens_too(
    file: Path, cache_dir: Path, tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture
) -> None:
    assert module_of(file, cache_dir, tokenizer, node(Doubled)).summary()["unchanged"] == 0
    file.write_text("a\nb\nc\n")
    read = module_of(file, cache_dir, tokenizer, node(Shuffled)).summary()
    assert (read["unchanged"], read["compared"]) == (3, 3)
    assert "The augmentation changes no text" in caplog.text


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([node(Shuffled), node(Loud)], r"augmentation\.makers\.1\._target_=.*Loud: comes after Shuffled"),
        ([node(Raised), node(Shuffled)], r"augmentation\.makers\.1\._target_=.*Shuffled: comes after Raised"),
        ([{"_target_": "fractions.Fraction"}], r"makers\.0\._target_=fractions\.Fraction: is not a TextMaker"),
        (["crop"], r"augmentation\.makers\.0=crop: must be a group with a _target_"),
        ([{"_target_": "simcse_lit.views.augmentation.Crp"}], r"makers\.0\._target_=.*Crp: cannot be imported"),
        (
            [{"_target_": "simcse_lit.views.augmentation.Crop", "rat": 1}],
            r"makers\.0\.rat: Crop takes .*Did you mean rate\?",
        ),
        (
            [{"_target_": "simcse_lit.views.augmentation.Crop", "rate": 1}],
            r"makers\.0: .*Crop: rate=1: must be greater than 0",
        ),
    ],
)
def test_makers_that_cannot_be_are_named(nodes: Sequence[Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        built_makers(nodes, "augmentation.makers")


def test_the_augmentations_of_conf_make_the_positive_and_nothing_else() -> None:
    for name in ("crop", "word_deletion", "delete_one_word", "synonym", "mlm"):
        config = train_config(f"augmentation={name}")
        anchor, positive = resolve(config.data, config.augmentation.makers)
        assert not anchor.makers and len(positive.makers) == 1
        assert bool(positive.changes) == (name != "mlm") == (not positive.on_device)
    config = train_config("augmentation=word_deletion", "augmentation.rate=0.3")
    (maker,) = resolve(config.data, config.augmentation.makers)[1].makers
    assert isinstance(maker, DeleteWords) and maker.rate == 0.3


def test_a_file_of_ones_own_is_an_augmentation(warm_cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from simcse_lit.views.makers import TextMaker\n"
        "class Backwards(TextMaker):\n"
        "    def __call__(self, text, rng):\n"
        "        return ' '.join(reversed(text.split()))\n"
    )
    folder = tmp_path / "my_conf" / "augmentation"
    folder.mkdir(parents=True)
    maker = "makers:\n  - _target_: own.Backwards\n"
    (folder / "backwards.yaml").write_text(f"defaults: [default, _self_]\nname: backwards\n{maker}")
    asked = ("--config-dir=my_conf", "augmentation=backwards", "model=tiny", "data=samples", "trainer=cpu", "analyses=[]")
    short = (
        "trainer.max_steps=2",
        "evaluation.before=false",
        "tasks=[]",
        "tasks@dev=samples-dev",
        "senteval.from_hub=false",
    )
    done = warm_cli(*asked, *short, "hydra.run.dir=run", env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    (folder / "wrong.yaml").write_text(f"defaults: [default, _self_]\nname: wrong\n{maker}    size: 1\n")
    refused = warm_cli(asked[0], "augmentation=wrong", *asked[2:], *short, env={"PYTHONPATH": str(tmp_path)})
    assert refused.returncode == 1
    assert "Error: augmentation.makers.0.size: Backwards takes no such argument." in refused.stderr
    assert "Tokenised" not in refused.stdout


def test_our_makers_are_among_what_a_run_of_someone_else_may_name() -> None:
    """`resume=` builds of such a run only what files of `conf/` name, in lists too."""
    for path in (CONF_DIR / "augmentation").glob("*.yaml"):
        known = TARGET.findall(path.read_text(encoding="utf-8"))
        assert len(known) == (path.stem not in ("default", "none")), path
