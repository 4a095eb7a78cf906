"""The prompts of an encoder: what is recorded, what is chosen, and that every way of use applies them."""

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer

from simcse_lit import SimCSE
from simcse_lit.config.schema import ModelConfig
from simcse_lit.encoder.backbone import load_backbone
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.encoding.passes import encode
from simcse_lit.encoding.texts import Settings, vectors
from simcse_lit.errors import UserError
from simcse_lit.formats.convert import export_as
from simcse_lit.formats.export import export
from simcse_lit.formats.loading import LoadedEncoder, load_encoder
from simcse_lit.formats.model_card import Provenance
from simcse_lit.text.prompts import Prompts, of_views, recorded_prompts
from tests.conftest import Cli
from tests.formats.test_sentence_transformers import card_code
from tests.formats.writers import WRITERS

TINY = ModelConfig("pkg://simcse_lit/data/samples/tiny", None, None, False, None, None, False, None)
SENTENCES = ["A man is playing a guitar.", "Somebody makes music.", "It rains."]
E5 = Prompts({"query": "query: {text}", "document": "passage: {text}"}, "query")
BERT = 'This sentence of "{text}" means [MASK].'
SETTINGS = Settings(128, 4096, "32-true", normalize=True)


def exported(folder: Path, prompts: Prompts) -> SentenceEncoder:
    torch.manual_seed(5)
    backbone, tokenizer = load_backbone(TINY, mlm=False)
    encoder = SentenceEncoder(backbone, "avg", "none").eval()
    export(encoder, tokenizer, folder, max_length=32, provenance=Provenance("base", None), prompts=prompts)
    return encoder


def load(folder: Path | str, **asked: Any) -> LoadedEncoder:
    return load_encoder(str(folder), **{"revision": None, "pooler": None, "projection": None, **asked})


def by_hand(encoder: SentenceEncoder, folder: Path, texts: list[str]) -> Tensor:
    """Unit vectors of texts as they stand."""
    found = encode(encoder, cast(Any, AutoTokenizer.from_pretrained(folder)), texts)
    return torch.nn.functional.normalize(found, dim=1)


def test_the_uses_of_a_text_have_the_prompts_that_models_name_for_them() -> None:
    assert [E5.of(use) for use in ("text", "query", "document")] == ["query: {text}", "query: {text}", "passage: {text}"]
    theirs = Prompts({"query": "q: {text}", "passage": "{text}"}, None)
    assert [theirs.of(use) for use in ("text", "query", "document")] == [None, "q: {text}", None]
    assert Prompts().of("query") is None


def test_what_views_were_trained_with_becomes_one_prompt_or_two() -> None:
    assert of_views(None, None) == Prompts()
    assert of_views(BERT, BERT) == Prompts({"default": BERT}, "default")
    assert of_views("query: {text}", None) == Prompts({"query": "query: {text}", "document": "{text}"}, "query")


def test_a_name_or_a_text_is_chosen_for_every_use_and_a_misspelt_name_is_told() -> None:
    assert {E5.chosen("document").of(use) for use in ("text", "query", "document")} == {"passage: {text}"}
    assert E5.chosen("to find: {text}").of("query") == "to find: {text}"
    assert E5.chosen("{text}").of("query") is None
    with pytest.raises(UserError, match=r"prompt=documnt: .* Its prompts: query, document\. Did you mean document\?"):
        E5.chosen("documnt")
    with pytest.raises(UserError, match=r"with \{text\} exactly once"):
        E5.chosen("{text} and {text}")


@pytest.mark.parametrize("kept", ["query: {text}", {"templates": ["x"]}, {"templates": {"a": 3}}, {"templates": {"a": "b"}}])
def test_damaged_prompts_are_no_prompts(kept: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="its prompt"):
        recorded_prompts({"prompts": kept})
    exported(tmp_path / "export", E5)
    path = tmp_path / "export" / "config.json"
    config = json.loads(path.read_text())
    config["simcse"]["prompts"] = kept
    path.write_text(json.dumps(config))
    with pytest.raises(UserError, match="the export is damaged: its prompt"):
        load(tmp_path / "export")


def test_an_export_is_used_with_its_prompts_by_whatever_loads_it(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    encoder = exported(folder, E5)
    queries = by_hand(encoder, folder, [f"query: {text}" for text in SENTENCES])
    documents = by_hand(encoder, folder, [f"passage: {text}" for text in SENTENCES])
    loaded = load(folder)
    torch.testing.assert_close(vectors(loaded, SENTENCES, SETTINGS), queries)
    torch.testing.assert_close(vectors(loaded, SENTENCES, SETTINGS, use="document"), documents)
    torch.testing.assert_close(vectors(load(folder, prompt="document"), SENTENCES, SETTINGS), documents)
    model = SimCSE(folder)
    torch.testing.assert_close(model.encode(SENTENCES), queries)
    model.build_index(SENTENCES)
    ((text, cosine),) = model.search("It rains.", top_k=1, threshold=-1)
    best = queries[2] @ documents.T
    assert (text, cosine) == (SENTENCES[int(best.argmax())], pytest.approx(float(best.max()), abs=1e-5))
    again = SimCSE(folder, prompt="passage: {text}").encode(SENTENCES)
    torch.testing.assert_close(again, documents)


def test_a_card_gives_a_sentence_its_full_stop(tmp_path: Path) -> None:
    exported(tmp_path / "export", Prompts({"default": 'of "{text.}"'}, "default"))
    loaded = load(tmp_path / "export")
    plain = load(tmp_path / "export", prompt='of "{text}"')
    cut = [text.rstrip(".") for text in SENTENCES]
    expected = vectors(plain, [f"{text}." for text in cut], SETTINGS)
    torch.testing.assert_close(vectors(loaded, cut, SETTINGS), expected)
    card = tmp_path / "export" / "README.md"
    text = card.read_text(encoding="utf-8")
    assert '["A man is playing a guitar.", "Somebody makes music."]' in text
    card.write_text(text.replace("a guitar.", "a guitar").replace("music.", "music"), encoding="utf-8")
    found = torch.nn.functional.normalize(torch.as_tensor(card_code(tmp_path / "export")), dim=1)
    torch.testing.assert_close(found, expected[:2], rtol=0, atol=1e-5)


@pytest.mark.parametrize("format", ["transformers", "sentence-transformers", "onnx"])
def test_every_format_keeps_the_prompts_and_its_card_applies_them(format: str, tmp_path: Path) -> None:
    exported(tmp_path / "export", E5)
    loaded = load(tmp_path / "export")
    expected = {use: vectors(loaded, SENTENCES, SETTINGS, use=use) for use in ("text", "document")}
    export_as(loaded, tmp_path / "other", WRITERS[format])
    again = load(tmp_path / "other")
    assert again.prompts == E5
    for use, expect in expected.items():
        torch.testing.assert_close(vectors(again, SENTENCES, SETTINGS, use=use), expect, rtol=0, atol=1e-5)
    found = torch.nn.functional.normalize(torch.as_tensor(card_code(tmp_path / "other")), dim=1)
    torch.testing.assert_close(found, expected["text"][:2], rtol=0, atol=1e-5)


def test_sentence_transformers_has_both_prompts_and_takes_no_others(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    exported(tmp_path / "export", E5)
    loaded = load(tmp_path / "export")
    export_as(loaded, tmp_path / "st", WRITERS["sentence-transformers"])
    model = SentenceTransformer(str(tmp_path / "st"), device="cpu")
    documents = torch.as_tensor(model.encode(SENTENCES, prompt_name="document", normalize_embeddings=True))
    torch.testing.assert_close(documents, vectors(loaded, SENTENCES, SETTINGS, use="document"), rtol=0, atol=1e-5)
    exported(tmp_path / "mask", of_views(BERT, BERT))
    with pytest.raises(UserError, match=r"its prompts come before a sentence, and this template has more: This sentence of"):
        export_as(load(tmp_path / "mask"), tmp_path / "st2", WRITERS["sentence-transformers"])


def test_the_mask_pooler_reads_the_templates_own_mask_token_in_every_format(tmp_path: Path) -> None:
    backbone, tokenizer = load_backbone(TINY, mlm=False)
    backbone.eval().save_pretrained(tmp_path / "raw")
    tokenizer.save_pretrained(tmp_path / "raw")
    texts = [*SENTENCES, f"A {tokenizer.mask_token} in the sentence."]
    loaded = load(tmp_path / "raw", pooler="mask", prompt=BERT)
    filled = [BERT.replace("[MASK]", tokenizer.mask_token).replace("{text}", text) for text in texts]
    batch = tokenizer(filled, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden_NLH = loaded.encoder.backbone(**batch).last_hidden_state  # type: ignore[operator]
    is_mask_NL = batch["input_ids"] == tokenizer.mask_token_id
    last = [int(row.nonzero().max()) for row in is_mask_NL]
    expected = torch.nn.functional.normalize(hidden_NLH[torch.arange(len(texts)), last], dim=1)
    torch.testing.assert_close(vectors(loaded, texts, SETTINGS), expected, rtol=0, atol=1e-5)
    for format in ("transformers", "onnx"):
        export_as(loaded, tmp_path / format, WRITERS[format])
        again = load(tmp_path / format)
        torch.testing.assert_close(vectors(again, texts, SETTINGS), expected, rtol=0, atol=1e-5)
        found = torch.nn.functional.normalize(torch.as_tensor(card_code(tmp_path / format)), dim=1)
        torch.testing.assert_close(found, expected[:2], rtol=0, atol=1e-5)
    with pytest.raises(UserError, match="pooler=mask: needs a template"):
        load(tmp_path / "raw", pooler="mask")
    for prompt, message in (("x {text}", "pooler=mask: needs a template"), ("{text} [MASK] and more", "pooler.behind=")):
        with pytest.raises(UserError, match=message):
            load(tmp_path / "transformers", prompt=prompt)
    with pytest.raises(UserError, match="format=sentence-transformers"):
        export_as(loaded, tmp_path / "st", WRITERS["sentence-transformers"])


def test_a_run_with_a_template_is_used_with_it(warm_cli: Cli, tmp_path: Path) -> None:
    settings = (
        *("model=tiny", "data=samples", "data.batch_size=32", "trainer=cpu", "trainer.max_steps=2"),
        *(
            "senteval.from_hub=false",
            "tasks=samples",
            "tasks@dev=samples-dev",
            "evaluation.before=false",
            "analyses=[]",
            "pooler=mask",
        ),
    )
    done = warm_cli(*settings, f"data.template={BERT}", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())["after"]
    asked = ("tasks=samples", "senteval.from_hub=false")
    for number, checkpoint in enumerate(("run/export", "run/checkpoints/last.ckpt")):
        evaluated = warm_cli(f"checkpoint={checkpoint}", *asked, f"hydra.run.dir=evaluated{number}", command="evaluate")
        assert evaluated.returncode == 0, evaluated.stderr
        result = json.loads((tmp_path / f"evaluated{number}" / "results.json").read_text())
        assert "means [MASK]" in json.dumps(result)
        assert f"{scores['test']['Pairs']:.2f}" in evaluated.stdout or number == 1
    refused = warm_cli(*settings, "hydra.run.dir=other")
    assert refused.returncode == 1 and "pooler=mask: needs a template" in refused.stderr


def test_the_verbs_take_a_prompt_and_search_has_one_for_queries_and_one_for_what_is_searched(
    warm_cli: Cli, tmp_path: Path
) -> None:
    encoder = exported(tmp_path / "export", E5)
    (tmp_path / "in.txt").write_text("\n".join(SENTENCES))
    for prompt, texts in (("document", "passage: {}"), ("find: {text}", "find: {}"), (None, "query: {}")):
        asked = () if prompt is None else (f"prompt={prompt}",)
        output = f"{len(texts)}.npy"
        done = warm_cli("checkpoint=export", "input=in.txt", f"output={output}", *asked, command="encode")
        assert done.returncode == 0, done.stderr
        expected = by_hand(encoder, tmp_path / "export", [texts.format(text) for text in SENTENCES])
        found = torch.nn.functional.normalize(torch.from_numpy(np.load(tmp_path / output)), dim=1)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    built = warm_cli("checkpoint=export", "folder=index", "input=in.txt", command="index")
    assert built.returncode == 0, built.stderr
    hits = warm_cli("folder=index", "query=It rains.", "top_k=3", "output=jsonl", command="search")
    assert hits.returncode == 0, hits.stderr
    query = by_hand(encoder, tmp_path / "export", ["query: It rains."])
    documents = by_hand(encoder, tmp_path / "export", [f"passage: {text}" for text in SENTENCES])
    scores = sorted((query @ documents.T)[0].tolist(), reverse=True)
    assert [hit["score"] for hit in json.loads(hits.stdout)["hits"]] == pytest.approx(scores, abs=1e-4)
    refused = warm_cli("checkpoint=export", "input=in.txt", "output=x.npy", "prompt=qery", command="encode")
    assert refused.returncode == 1 and "prompt=qery: the model has no prompt of this name" in refused.stderr
