"""PromptBERT: its parts as the configuration builds them, and what becomes of them in a checkpoint and an export."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from simcse_lit.encoder.backbone import load_backbone
from simcse_lit.encoder.denoising import Denoising
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.encoder.pooling import make_pooler
from simcse_lit.encoding.embedding_cache import fingerprint
from simcse_lit.encoding.passes import encode
from simcse_lit.errors import UserError
from simcse_lit.formats.convert import export_as
from simcse_lit.formats.export import export
from simcse_lit.formats.loading import LoadedEncoder, load_encoder
from simcse_lit.formats.model_card import Provenance
from simcse_lit.scores import read_scores
from simcse_lit.text.prompts import Prompts
from simcse_lit.text.template import Template
from simcse_lit.training.build import Built, build
from tests.conftest import Cli, train_config
from tests.formats.writers import WRITERS
from tests.text.test_template import bert
from tests.views.encoded import encoded

FIRST, SECOND = 'This sentence of "{text}" means [MASK].', 'This sentence : "{text}" means [MASK].'
TINY = ("model=tiny", "data=samples", "tasks=samples", "tasks@dev=samples-dev", "senteval.from_hub=false", "trainer=cpu")
SENTENCES = ["the water is cold", "a river", "the [MASK] river is cold and deep"]


def built(*asked: str) -> Built:
    return build(train_config(*TINY, "loss=promptbert", *asked))


def test_the_loss_of_that_name_reads_the_mask_token_of_two_templates_and_denoises_it() -> None:
    module = built().module
    encoder = module.encoder
    assert encoder.pooler.name == "mask" and encoder.head.when == "training"
    views = encoded(train_config("loss=promptbert", "model=tiny").data, bert())
    assert [(view.role, view.template) for view in views.views] == [("anchor", FIRST), ("positive", SECOND)]
    first, second = (Template(text, bert()) for text in (FIRST, SECOND))
    around = len(first.prefix_ids), len(first.suffix_ids)
    assert around == (len(second.prefix_ids), len(second.suffix_ids))
    assert encoder.denoising == Denoising(*around, "training")
    assert views.longest == 32 + sum(around)  # 32 tokens of a sentence, without template and special tokens
    assert list(module.objective.terms) == ["contrastive"]


@pytest.mark.parametrize("model", ["roberta-base", "roberta-large", "distilroberta"])
def test_roberta_has_its_own_templates(model: str) -> None:
    config = train_config("loss=promptbert", f"model={model}")
    assert config.data.template == ["This sentence : ' {text} ' means [MASK].", "The sentence : ' {text} ' means [MASK]."]
    assert (config.data.batch_size, config.optimizer.lr) == (256, 1e-5)


def test_a_pooler_that_is_asked_for_takes_the_place_of_the_mask_token() -> None:
    config = train_config("loss=promptbert", "pooler=cls")
    assert (config.pooler, config.data.template_denoising) == ({"name": "cls"}, "training")
    assert train_config("loss=promptbert", "pooler=avg").projection["name"] == "none"
    assert train_config().pooler == train_config("loss=sup").pooler == {"name": "cls"}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["data.template=null"], r"data\.template_denoising=training: each view needs a template"),
        ([f"data.template=['{FIRST}',null]"], "each view needs a template"),
        ([f"data.template=['{FIRST}','{{text}} means [MASK].']"], "the same number of tokens before"),
        (["data.template_denoising=allways"], "not one of never, training, always. Did you mean always"),
    ],
)
def test_denoising_that_cannot_be_is_refused(asked: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        built(*asked)


def exported(folder: Path, when: Any, templates: tuple[str, str] = (FIRST, SECOND)) -> SentenceEncoder:
    """An encoder with random weights, whose anchors and positives had these templates."""
    torch.manual_seed(5)
    backbone, tokenizer = load_backbone(train_config("model=tiny").model, mlm=False)
    template = Template(templates[0], tokenizer)
    encoder = SentenceEncoder(backbone, make_pooler("mask"), "none").eval()
    encoder.pooler.set_up(template.behind_mask)
    encoder.denoising = Denoising(len(template.prefix_ids), len(template.suffix_ids), when)
    prompts = Prompts({"query": templates[0], "document": templates[1]}, "query")
    export(encoder, tokenizer, folder, max_length=32, provenance=Provenance("base", None), prompts=prompts)
    return encoder


def loaded(folder: Path, **asked: Any) -> LoadedEncoder:
    return load_encoder(str(folder), **{"revision": None, "pooler": None, "projection": None, **asked})


def vectors(found: LoadedEncoder, use: str = "text") -> Tensor:
    return encode(found.encoder, found.tokenizer, SENTENCES, template=found.template(use))


def by_hand(encoder: SentenceEncoder, found: LoadedEncoder, form: str, *, denoise: bool) -> Tensor:
    """Vectors from the token ids of each text, one by one; the mask token is the last one in a text."""
    rows = []
    for text in SENTENCES:
        whole, bare = (found.tokenizer(form.replace("{text}", each))["input_ids"] for each in (text, ""))
        place = max(place for place, token in enumerate(whole) if token == found.tokenizer.mask_token_id)
        behind = len(whole) - place
        before = len(Template(form, found.tokenizer).prefix_ids)
        positions = [*range(before), *range(before + len(whole) - len(bare), len(whole))]
        state = encoder.backbone(torch.tensor([whole])).last_hidden_state[0, -behind]
        d = encoder.backbone(torch.tensor([bare]), position_ids=torch.tensor([positions])).last_hidden_state[0, -behind]
        rows.append((state - d if denoise else state).detach())
    return torch.stack(rows)


@pytest.mark.parametrize("when", ["training", "always"])
def test_an_export_reads_the_mask_token_and_denoises_it_if_that_is_always_done(when: str, tmp_path: Path) -> None:
    encoder = exported(tmp_path / "export", when)
    found = loaded(tmp_path / "export")
    section = json.loads((tmp_path / "export" / "config.json").read_text())["simcse"]
    assert ("denoising" in section) == (when == "always")
    for use, form in (("text", FIRST), ("document", SECOND)):
        expected = by_hand(encoder, found, form, denoise=when == "always")
        torch.testing.assert_close(vectors(found, use), expected, rtol=0, atol=1e-5)
    card = (tmp_path / "export" / "README.md").read_text()
    assert ("from simcse_lit import SimCSE" in card) == (when == "always")  # transformers alone would not subtract


def test_formats_that_cannot_denoise_refuse_it_and_transformers_keeps_it(tmp_path: Path) -> None:
    exported(tmp_path / "export", "always")
    found = loaded(tmp_path / "export")
    for format in ("onnx", "sentence-transformers"):
        with pytest.raises(UserError, match=rf"format={format}: .*bare template.*\n.*data\.template_denoising=training"):
            export_as(found, tmp_path / format, WRITERS[format])
    export_as(found, tmp_path / "transformers", WRITERS["transformers"])
    torch.testing.assert_close(vectors(loaded(tmp_path / "transformers")), vectors(found))


def test_another_prompt_is_refused_if_its_bare_template_has_another_number_of_tokens(tmp_path: Path) -> None:
    exported(tmp_path / "always", "always")
    exported(tmp_path / "training", "training")
    other = '"{text}" means [MASK].'
    with pytest.raises(UserError, match=r"(?s)with data\.template_denoising=always.* Use its own prompts"):
        loaded(tmp_path / "always", prompt=other)
    assert loaded(tmp_path / "always", prompt="document").prompts.of("text") == SECOND
    assert loaded(tmp_path / "training", prompt=other).prompts.of("text") == other


def test_a_cache_of_vectors_tells_denoised_vectors_from_others(tmp_path: Path) -> None:
    keys = set()
    for when in ("training", "always"):
        exported(tmp_path / when, when)
        keys.add(fingerprint(loaded(tmp_path / when), 32, "32-true"))
    assert len(keys) == 2


@pytest.mark.parametrize("when", ["training", "always"])
def test_a_run_of_two_steps_is_evaluated_with_its_template_as_it_was_scored(
    when: str, warm_cli: Cli, tmp_path: Path
) -> None:
    done = warm_cli(
        *("loss=promptbert", *TINY, f"data.template_denoising={when}", "data.batch_size=32", "evaluation.before=false"),
        *("trainer.max_steps=2", "trainer.val_check_interval=2", "trainer.micro_batch_size=8", "hydra.run.dir=run"),
    )
    assert done.returncode == 0, done.stderr
    score = read_scores(tmp_path / "run")["after"]["test"]["Pairs"]
    section = json.loads((tmp_path / "run" / "export" / "config.json").read_text())["simcse"]
    assert section["prompts"]["templates"] == {"query": FIRST, "document": SECOND}
    (best,) = (tmp_path / "run" / "checkpoints").glob("best-*.ckpt")
    for checkpoint in ("run/export", str(best)):
        asked = (f"checkpoint={checkpoint}", "tasks=samples", f"hydra.run.dir={Path(checkpoint).stem}")
        scored = warm_cli(*asked, command="evaluate")
        assert scored.returncode == 0, scored.stderr
        (encoder,) = json.loads((tmp_path / Path(checkpoint).stem / "results.json").read_text())["encoders"]
        assert encoder["prompt"] == FIRST and encoder["tasks"]["Pairs"]["score"] == pytest.approx(score, abs=1e-4)
