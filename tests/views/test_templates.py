"""`data.template`: around which views it stands, how long sentences may be, and what is scored."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast

from simcse_lit.config.as_typed import for_hydra
from simcse_lit.config.resolvers import local_path
from simcse_lit.data.datamodule import SimCSEDataModule
from simcse_lit.data.streaming import StreamedBatches
from simcse_lit.errors import UserError
from simcse_lit.training.build import build
from tests.conftest import Cli, train_config
from tests.views.encoded import encoded

FIRST, SECOND = 'This sentence of "{text}" means [MASK].', "The sentence : {text} is [MASK]."
SENTENCES = [f"{number} the water of a river is cold and deep" for number in range(8)]
TINY = local_path("pkg://simcse_lit/data/samples/tiny", "test")
FORMS = {
    "one": ("data.template='" + FIRST + "'", (FIRST, FIRST)),
    "two": (f"data.template=['{FIRST}','{SECOND}']", (FIRST, SECOND)),
    "one of two": (f"data.template=[null,'{SECOND}']", (None, SECOND)),
    "listed": (
        f"data.views=[{{column: text, role: anchor, template: '{FIRST}'}}, {{column: text, role: positive}}]",
        (FIRST, None),
    ),
}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(TINY)  # type: ignore[return-value]


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "a.txt").write_text("\n".join(SENTENCES) + "\n")
    return f"data.train_file={tmp_path}/a.txt"


def around(tokenizer: Any, form: str | None, text: str) -> list[int]:
    return tokenizer((form or "{text}").replace("{text}", text))["input_ids"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", FORMS)
def test_each_view_has_its_template(
    name: str, stream: bool, file: str, tokenizer: PreTrainedTokenizerFast, cache_dir: Path
) -> None:
    given, forms = FORMS[name]
    more = ("data=stream", "trainer.max_steps=1", "data.shuffle_buffer=1") if stream else ("data=file",)
    config = train_config("model=tiny", *more, file, given, "data.batch_size=8", f"data.cache_dir={cache_dir}")
    views = encoded(config.data, tokenizer)
    batches: Any = StreamedBatches(config.data, views, seed=1)
    if not stream:
        data = SimCSEDataModule(config.data, tokenizer, dev=["a river"], test=[], token_budget=99, seed=1, views=views)
        batches = data.train_dataloader()
        (dev,) = data.val_dataloader()
        assert dev["input_ids"].tolist() == [around(tokenizer, forms[0], "a river")], "the anchor's template"
    batch = next(iter(batches))
    for view, form in enumerate(forms):
        found = [
            ids[mask == 1].tolist()
            for ids, mask in zip(batch["input_ids"][:, view], batch["attention_mask"][:, view], strict=True)
        ]
        assert sorted(found) == sorted(around(tokenizer, form, text) for text in SENTENCES)


def test_changed_texts_and_next_sentences_have_their_template_too(
    file: str, tokenizer: PreTrainedTokenizerFast, cache_dir: Path
) -> None:
    for more in ("augmentation=delete_one_word", "data.next_sentences=1"):
        settings = (
            "model=tiny",
            "data=file",
            file,
            FORMS["two"][0],
            more,
            "data.batch_size=4",
            f"data.cache_dir={cache_dir}",
        )
        config = train_config(*settings)
        views = encoded(config.data, tokenizer, config.augmentation.makers)
        data = SimCSEDataModule(config.data, tokenizer, dev=[], test=[], token_budget=99, seed=1, views=views)
        batch = next(iter(data.train_dataloader()))
        decoded = tokenizer.batch_decode(batch["input_ids"][:, 1], skip_special_tokens=False)
        assert all("the sentence :" in text.lower() and "is [MASK]." in text for text in decoded)


def test_the_sentence_is_cut_and_the_template_counts_or_comes_on_top(
    file: str, tokenizer: PreTrainedTokenizerFast, cache_dir: Path
) -> None:
    asked = ("model=tiny", "data=file", file, FORMS["one"][0], "data.batch_size=8", f"data.cache_dir={cache_dir}")
    lengths = []
    for counted in ("false", "true"):
        config = train_config(*asked, "data.max_length=14", f"data.template_in_length={counted}")
        views = encoded(config.data, tokenizer)
        data = SimCSEDataModule(config.data, tokenizer, dev=[], test=[], token_budget=99, seed=1, views=views)
        batch = next(iter(data.train_dataloader()))
        assert batch["input_ids"].shape[2] == views.longest or counted == "false"
        assert torch.equal(batch["input_ids"][batch["attention_mask"].bool()].eq(4).sum(), torch.tensor(16))
        lengths.append(views.longest)
    assert lengths[1] == 14 and lengths[0] == 14 + views.templates[FIRST].tokens


def test_a_model_that_takes_too_few_tokens_for_the_template_is_named(tmp_path: Path, file: str) -> None:
    BertModel(BertConfig.from_pretrained(TINY, max_position_embeddings=20)).save_pretrained(tmp_path / "model")
    AutoTokenizer.from_pretrained(TINY).save_pretrained(tmp_path / "model")
    asked = (f"model.name_or_path={tmp_path}/model", "data=file", file, "data.max_length=16", "senteval.from_hub=false")
    with pytest.raises(UserError, match=r"data\.max_length=16 and the template's \d+: .* takes 20 tokens at most"):
        build(train_config("model=tiny", *asked, FORMS["one"][0]))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("data.template=means", r"data\.template=means: must be a text with \{text\} exactly once"),
        ("data.template=['{text}']", r"data\.template: has 1 entries for 2 views"),
        ("data.template_in_length=true", r"data\.template_in_length=true: there is no template"),
        (FORMS["listed"][0].replace("{text}", "it"), r"data\.views\.0\.template=.*must be a text"),
    ],
)
def test_templates_that_cannot_be_are_named_before_a_model_is_loaded(given: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        train_config("model=tiny", "data=file", "data.train_file=a.txt", given)
    with pytest.raises(UserError, match=r"data\.template data\.views"):
        train_config("model=tiny", "data=file", "data.train_file=a.txt", FORMS["listed"][0], FORMS["one"][0])


def test_a_template_may_hold_commas_and_is_typed_as_it_stands() -> None:
    text = 'In short, "{text}" means [MASK].'
    (word,) = for_hydra("train", [f"data.template={text}"])
    assert train_config("model=tiny", word).data.template == text


def test_a_run_with_two_templates_trains_and_exports(warm_cli: Cli, tmp_path: Path) -> None:
    short = ("trainer=cpu", "trainer.max_steps=2", "evaluation.before=false", "tasks=[]", "tasks@dev=samples-dev")
    asked = ("model=tiny", "data=samples", "senteval.from_hub=false", "analyses=[]", f"data.template=[{FIRST},{SECOND}]")
    done = warm_cli(*asked, *short, "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "export" / "model.safetensors").is_file()
