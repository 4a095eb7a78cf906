"""docs/coming-from/: every option composes, every name of the other library is there, and what is called the same is."""

import inspect
import re
import shlex
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from sentence_transformers.sentence_transformer import evaluation, losses, modules
from torch import Tensor, nn

from simcse_lit import SimCSE, testing
from simcse_lit.config import CONF_DIR
from simcse_lit.config.as_typed import for_hydra
from simcse_lit.config.checks.encode import validate_serve
from simcse_lit.config.checks.evaluate import validate_evaluation
from simcse_lit.config.checks.export import validate_import
from simcse_lit.config.checks.train import validate
from simcse_lit.encoder.pooling import make_pooler
from simcse_lit.methods.angle import Angle
from simcse_lit.methods.cosent import CoSENT
from simcse_lit.methods.matryoshka import Matryoshka
from simcse_lit.objective.info_nce import InfoNCE
from simcse_lit.objective.step import Step
from tests.conftest import ROOT

PAGES = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "coming-from").glob("*.md")}
CHECKS = {
    "train": (validate, []),
    "evaluate": (validate_evaluation, ["checkpoint=none"]),
    "import_checkpoint": (validate_import, []),
    "serve": (validate_serve, ["checkpoint=none"]),
}
OPTION = re.compile(r"[+~]?[\w@./]+=.*")


def tables(text: str) -> Iterator[tuple[list[str], list[list[str]]]]:
    """(heads, rows) of every table."""
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        heads, _, *rows = [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in block.splitlines()]
        yield heads, rows


def options() -> list[tuple[str, str]]:
    """(verb, the options) of every cell below a heading `simcse-lit VERB`."""
    found = []
    for text in PAGES.values():
        for heads, rows in tables(text):
            for column, head in enumerate(heads):
                verb = head.strip("`").partition("simcse-lit ")[2]
                found += [(verb, row[column].strip("`")) for row in rows if verb in CHECKS and row[column] != "not here"]
    return sorted(set(found))


@cache
def tried(verb: str, words: str) -> None:
    """Compose and check a cell, as if it were typed after the verb."""
    check, needed = CHECKS[verb]
    typed = [*needed, *shlex.split(words)]
    more = ["run_dir=unused"] if verb in ("train", "evaluate") else []
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        check(compose(verb, [*for_hydra(verb, typed), *more]))


def test_there_are_tables_for_every_verb() -> None:
    assert {verb for verb, _ in options()} == set(CHECKS)
    assert len(options()) > 90


@pytest.mark.parametrize(("verb", "words"), options())
def test_an_option_composes_and_validates(verb: str, words: str) -> None:
    assert all(OPTION.fullmatch(word) for word in shlex.split(words)), words
    tried(verb, words)


@pytest.mark.parametrize("page", PAGES)
def test_options_in_the_notes_exist(page: str) -> None:
    """A note may leave out what its option needs, so its keys and groups are composed and no more."""
    for heads, rows in tables(PAGES[page]):
        if "notes" not in heads or not heads[-2].startswith("`simcse-lit "):
            continue
        verb = heads[-2].strip("`").partition("simcse-lit ")[2]
        for row in rows:
            for words in re.findall(r"`([^`]+)`", row[-1]):
                if all(OPTION.fullmatch(word) for word in shlex.split(words)) and "package.Class" not in words:
                    folder = ["run_dir=unused"] if verb in ("train", "evaluate") else []
                    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
                        compose(verb, [*for_hydra(verb, shlex.split(words)), *folder])


@pytest.mark.parametrize("module", [losses, evaluation, modules], ids=["losses", "evaluators", "modules"])
def test_every_class_of_sentence_transformers_is_named(module: object) -> None:
    helpers = {
        "BatchHardTripletLossDistanceFunction",
        "ContrastiveTensionDataLoader",
        "SiameseDistanceMetric",
        "TripletDistanceMetric",
        "SimilarityFunction",
        "BaseEvaluator",
        "SentenceEvaluator",
        "InputModule",
        "Module",
    }
    names = {name for name in module.__all__ if inspect.isclass(getattr(module, name))}  # type: ignore[attr-defined]
    text = PAGES["sentence-transformers"]
    assert {name for name in names - helpers if f"`{name}" not in text} == set()


def test_every_argument_of_the_papers_scripts_is_named() -> None:
    """The fields of the three groups of arguments of train.py, and of the other scripts."""
    own = """model_name_or_path model_type config_name tokenizer_name cache_dir use_fast_tokenizer model_revision
        use_auth_token temp pooler_type hard_negative_weight do_mlm mlm_weight mlp_only_train dataset_name
        dataset_config_name overwrite_cache validation_split_percentage
        preprocessing_num_workers train_file max_seq_length pad_to_max_length
        mlm_probability eval_transfer"""
    scripts = """output_dir num_train_epochs per_device_train_batch_size learning_rate evaluation_strategy
        metric_for_best_model load_best_model_at_end eval_steps overwrite_output_dir do_train do_eval fp16"""
    others = "pooler mode task_set tasks path device sentences_dir example_query example_sentences port ip"
    for name in f"{own} {scripts} {others}".split():
        assert f"--{name}" in PAGES["simcse"], name


def test_the_class_has_the_arguments_and_defaults_of_the_papers_tool() -> None:
    """Those of release 0.4 of the package simcse."""
    tool = {
        "SimCSE": "model_name_or_path, device=None, num_cells=100, num_cells_in_search=10, pooler=None",
        "encode": "sentence, device=None, return_numpy=False, normalize_to_unit=True, keepdim=False, batch_size=64, "
        "max_length=128",
        "similarity": "queries, keys, device=None",
        "build_index": "sentences_or_file_path, use_faiss=None, faiss_fast=False, device=None, batch_size=64",
        "search": "queries, device=None, threshold=0.6, top_k=5",
    }
    said = {}
    for heads, rows in tables(PAGES["simcse"]):
        if heads[0] == "call":
            said = {name.strip("`").partition("(")[0]: arguments.replace("`", "") for name, arguments in rows}
    assert said == tool
    for name, arguments in tool.items():
        function = SimCSE.__init__ if name == "SimCSE" else getattr(SimCSE, name)
        ours = [each for each in inspect.signature(function).parameters.values() if each.kind is not each.KEYWORD_ONLY][1:]
        shown = [each.name if each.default is each.empty else f"{each.name}={each.default}" for each in ours]
        assert ", ".join(shown) == arguments


def step_of(vectors_BVD: Tensor) -> Step:
    """A step of these vectors: anchor, positive, hard negatives."""
    batch, views, _ = vectors_BVD.shape
    ids_BVL = torch.ones(batch, views, 1, dtype=torch.long)
    roles = ("anchor", "positive", *["hard_negative"] * (views - 2))
    return Step(ids_BVL, ids_BVL, vectors_BVD, vectors_BVD, 0, 1, 0, None, roles)  # type: ignore[arg-type]


class Given(nn.Module):
    """In place of a SentenceTransformer: returns its input as the embedding."""

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"sentence_embedding": features["vectors"]}


GIVEN: Any = Given()


class Fixed(nn.Module):
    """In place of a SentenceTransformer: returns the same embeddings for every input."""

    def __init__(self, vectors_BD: Tensor) -> None:
        super().__init__()
        self.vectors_BD = vectors_BD

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"sentence_embedding": self.vectors_BD}


@pytest.mark.parametrize("views", [2, 3, 4])
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"scale": 20.0}, {}),
        ({"scale": 20.0, "directions": ("query_to_doc", "query_to_query")}, {"own_view": True}),
        (
            {"scale": 20.0, "directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"},
            {"directions": "both"},
        ),
    ],
)
def test_multiple_negatives_ranking_is_info_nce(views: int, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    vectors_BVD = torch.randn(7, views, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    loss = InfoNCE(0.05, **ours)(step_of(vectors_BVD))
    peer = losses.MultipleNegativesRankingLoss(GIVEN, **theirs)
    features = [{"vectors": view} for view in vectors_BVD.unbind(1)]
    assert float(loss) == pytest.approx(float(peer(features, labels=None)), abs=1e-12)


@pytest.mark.parametrize(("theirs", "ours"), [(losses.CoSENTLoss, CoSENT), (losses.AnglELoss, Angle)])
def test_losses_of_scored_pairs_are_the_same_alone_and_in_matryoshka(theirs: Any, ours: Any) -> None:
    vectors_BVD = torch.randn(7, 2, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scores_B = torch.tensor([0.0, 5.0, 2.5, 2.5, 1.0, 4.2, 0.0], dtype=torch.float64)
    step = testing.step_of(vectors_BVD, extras={"scores": scores_B})
    features = [{"vectors": view} for view in vectors_BVD.unbind(1)]
    assert float(ours()(step)) == pytest.approx(float(theirs(GIVEN)(features, scores_B)), abs=1e-9)
    model: Any = Given()
    model.get_embedding_dimension = lambda: 16
    peer = losses.MatryoshkaLoss(model, theirs(model), [16, 8, 2], [1.0, 0.5, 2.0])
    term = Matryoshka(ours(), [16, 8, 2], [1.0, 0.5, 2.0])
    term.setup(16, testing.VOCABULARY)
    assert float(term(step)[0]) == pytest.approx(float(peer(features, scores_B)), abs=1e-9)


@pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning", "ignore:.*deprecated:DeprecationWarning")
def test_the_symmetric_loss_is_both_directions() -> None:
    vectors_BVD = torch.randn(7, 2, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    peer = losses.MultipleNegativesSymmetricRankingLoss(GIVEN)
    theirs = peer([{"vectors": view} for view in vectors_BVD.unbind(1)], labels=None)
    assert float(InfoNCE(0.05, directions="both")(step_of(vectors_BVD))) == pytest.approx(float(theirs), abs=1e-12)


def test_contrastive_tension_in_the_batch_is_both_directions_with_a_learned_temperature() -> None:
    vectors_BVD = torch.randn(7, 2, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    peer: Any = losses.ContrastiveTensionLossInBatchNegatives(GIVEN)
    peer.model1, peer.model2 = Fixed(vectors_BVD[:, 0]), Fixed(vectors_BVD[:, 1])
    theirs = peer([{}], labels=None).detach()
    loss, told = InfoNCE(0.05, directions="both", learn_temperature=True)(step_of(vectors_BVD))
    assert float(loss.detach()) == pytest.approx(float(theirs), rel=1e-6)  # its scale is a float32
    assert float(told["temperature"]) == pytest.approx(0.05)


@pytest.mark.parametrize(("mode", "name"), [("mean", "avg"), ("cls", "cls"), ("lasttoken", "last_token")])
def test_a_pooling_mode_is_our_pooler(mode: str, name: str) -> None:
    hidden_NLH = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))
    mask_NL = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])
    features = {"token_embeddings": hidden_NLH, "attention_mask": mask_NL}
    theirs = modules.Pooling(8, mode)(features)["sentence_embedding"]
    torch.testing.assert_close(make_pooler(name)([hidden_NLH], mask_NL), theirs)
