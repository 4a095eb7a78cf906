"""What a user types for a text, a path or a list of them is what a verb gets, in every verb and every such key."""

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from simcse_lit.config import CONF_DIR
from simcse_lit.config.as_typed import Kind, for_hydra, kinds, literal, parts
from simcse_lit.config.schema import SCHEMAS

TYPED = [
    "语料.txt",
    "été/export",
    "runs/lr=1e-5/export",
    "corpus (1).txt",
    "./m/step=100,seed=1",
    "~/x.txt",
    "1e5",
    "2024_10",
    "12e45678",
    "costs ${5}",
    "${oc.env:HOME}",
    r"a\${b}",
    "trailing\\",
    "'tis",
    "it's #2, isn't it?",
    "+leading",
    " blanks around ",
    "true",
    "NaN",
    "[2024] corpus.txt",
    "{a: b}",
    "a: b # c",
    "choice(a,b)",
    "%41%",
    "`x`",
    'say "hello',
    "語 (v=1), #2's",
]
ALWAYS = ["run_dir=unused"]  # interpolates what only a job knows


def read(verb: str, *words: str) -> Any:
    """What a verb is given, as plain containers, without checks."""
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose(verb, for_hydra(verb, words) + (ALWAYS if verb in ("train", "evaluate") else []))


def value(verb: str, key: str, typed: str) -> Any:
    found = OmegaConf.select(read(verb, f"{key}={typed}"), key)
    return OmegaConf.to_container(found, resolve=True) if OmegaConf.is_config(found) else found


def meant(verb: str, key: str, typed: str) -> Any:
    """What Hydra's parser and OmegaConf make of a value, which is quicker than to compose."""
    (word,) = for_hydra(verb, [f"{key}={typed}"])
    read_by_hydra = OverridesParser.create().parse_override(word).value()
    return OmegaConf.to_container(OmegaConf.create({"value": read_by_hydra}), resolve=True)["value"]  # type: ignore[index, call-overload]


def texts(wanted: Any) -> list[tuple[str, str]]:
    """(verb, key) of the keys that the schema gives this kind; those of a group that a verb may lack are left out."""
    return [(verb, key) for verb, schema in SCHEMAS.items() for key, kind in kinds(schema).items() if wanted(kind)]


SINGLE = [(verb, key) for verb, key in texts(lambda kind: kind.text and not kind.listed) if "pooler" not in key]
SINGLE = [(verb, key) for verb, key in SINGLE if "projection" not in key]


def test_the_schema_says_which_keys_hold_text() -> None:
    train = kinds(SCHEMAS["train"])
    assert train["name"] == Kind()
    assert train["model.revision"] == Kind(optional=True)
    assert train["data.train_file"] == Kind(listed=True, optional=True)
    assert train["data.columns"] == Kind(listed=True, bare=False)
    assert train["tasks"] == Kind(listed=True, text=False)
    assert kinds(SCHEMAS["search"])["query"] == Kind(sentence=True)
    assert "loss.temperature" not in train and "seed" not in train


@pytest.mark.parametrize("typed", TYPED)
@pytest.mark.parametrize(
    ("verb", "key"),
    [
        ("train", "data.train_file"),
        ("train", "model.name_or_path"),
        ("train", "name"),
        ("evaluate", "checkpoint"),
        ("evaluate", "embedding_cache"),
        ("search", "query"),
        ("index", "folder"),
        ("export", "output"),
    ],
)
def test_a_text_is_taken_as_it_stands(verb: str, key: str, typed: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    if key in ("data.train_file", "checkpoint") and "," in typed and typed != "choice(a,b)":
        place = tmp_path / typed  # of a key that may hold a list: a path that is there is one path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    elif typed == "choice(a,b)" and key in ("data.train_file", "checkpoint"):
        return
    assert meant(verb, key, typed) == typed


@pytest.mark.parametrize(("verb", "key"), SINGLE)
def test_every_text_key_of_every_verb_takes_any_text(verb: str, key: str) -> None:
    for typed in ("corpus (1), #2's = ${3}.txt", "1e5"):
        assert meant(verb, key, typed) == typed


@pytest.mark.parametrize("verb", SCHEMAS)
def test_what_a_verb_composes_holds_the_text(verb: str) -> None:
    keys = [key for known, key in SINGLE if known == verb and key.rpartition(".")[2] != "run_dir"]
    typed = {key: f"{place} {TYPED[-1]} = ${{3}}" for place, key in enumerate(keys)}
    composed = read(verb, *(f"{key}={text}" for key, text in typed.items()))
    assert {key: OmegaConf.select(composed, key) for key in keys} == typed


@settings(max_examples=500, deadline=None)
@given(typed=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20))
def test_any_text_survives_hydra_and_omegaconf(typed: str) -> None:
    for verb, key in (("search", "query"), ("similarity", "first")):
        assert meant(verb, key, typed) == typed


def test_null_is_a_word_where_a_sentence_is_asked_for_and_nothing_elsewhere() -> None:
    assert value("search", "query", "null") == "null"
    assert value("search", "input", "null") is None
    assert value("train", "name", "null") == "null"
    assert value("evaluate", "checkpoint", "null") is None


def test_quotes_that_hydra_teaches_come_off_but_not_of_a_sentence() -> None:
    assert value("train", "data.train_file", "'corpus (1).txt'") == "corpus (1).txt"
    assert value("encode", "input", '"a b.txt"') == "a b.txt"
    assert value("search", "query", "'hello'") == "'hello'"


def test_a_list_may_be_typed_with_brackets_or_without() -> None:
    for typed in ("[sent 0,sent1]", "sent 0,sent1", "['sent 0', sent1]"):
        assert value("train", "data.columns", typed) == ["sent 0", "sent1"]
    assert value("train", "data.columns", "text") == ["text"]
    assert value("train", "demo.queries", '["who, what?",2024_10]') == ["who, what?", "2024_10"]
    assert value("train", "data.train_file", "été.txt,b (1).txt") == ["été.txt", "b (1).txt"]
    assert value("evaluate", "compare", "a=1,b=2") == ["a=1", "b=2"]
    assert value("index", "delete", "3,17") == [3, 17]
    assert value("train", "data.columns", "[]") == []


def test_a_group_takes_several_options() -> None:
    assert list(read("evaluate", "tasks=STS12,MR").tasks) == ["STS12", "MR"]
    assert list(read("train", "logger=csv,wandb").logger) == ["csv", "wandb"]


def test_a_comma_in_a_path_that_is_there_separates_nothing(tmp_path: Path) -> None:
    odd = tmp_path / "語 (v=1), #2's"
    (odd / "a, b").mkdir(parents=True)
    (odd / "x.txt").touch()
    paths = [str(odd / "x.txt"), str(odd / "a, b"), str(odd / "not made yet")]
    for path in paths:
        assert parts(path) == [path]
    assert parts(",".join(paths)) == paths
    assert value("evaluate", "checkpoint", ",".join(paths)) == paths
    assert value("evaluate", "checkpoint", str(odd / "*")) == str(odd / "*")
    assert parts("a,b , 'c,d',[e,f]") == ["a", "b", "'c,d'", "[e,f]"]


def test_in_a_multirun_a_comma_sweeps_what_is_swept(tmp_path: Path) -> None:
    odd = tmp_path / "m,n (1).txt"
    odd.touch()
    words = for_hydra("train", ["-m", f"data.train_file={odd},été.txt", "pooler=cls,avg", "name=choice(a,b)", "seed=1,2"])
    assert words == ["-m", f"data.train_file='{odd}','été.txt'", "pooler=cls,avg", "name=choice(a,b)", "seed=1,2"]
    assert for_hydra("train", ["-m", "data.columns=[a b,c],[d]"]) == ["-m", "data.columns=[a b,c],[d]"]
    options = ["-m", "pooler=choice(cls,avg)", "loss=sup, unsup", "model=7,8", "experiment=[a,b],[c]"]
    assert for_hydra("train", options) == [*options[:2], "loss=sup,unsup", "model='7','8'", options[4]]
    assert for_hydra("train", ["hydra.mode=MULTIRUN", "model.name_or_path=a=1,b"])[1] == "model.name_or_path='a=1',b"


def test_what_hydra_reads_as_itself_stays_as_it_was_typed() -> None:
    words = ["name=quick-1", "data.train_file=a/b.txt", "loss=sup", "loss.temperature=0.1", "~callbacks.progress", "seed"]
    assert for_hydra("train", words) == words


def test_a_plus_before_a_key_that_is_there_is_no_mistake() -> None:
    assert for_hydra("train", ["+name=x", "+experiment=quickstart"]) == ["name=x", "experiment=quickstart"]
    kept = ["+trainer.extra.limit_val=1", "++name=x", "+sweep=temperature"]
    assert for_hydra("train", kept) == kept


def test_keys_of_no_known_type_are_text_where_hydra_cannot_read_them() -> None:
    assert for_hydra("train", ["logger.wandb.name=试验 (1)"]) == ["logger.wandb.name='试验 (1)'"]
    assert for_hydra("train", ["-m", "logger.wandb.name=试,验"]) == ["-m", "logger.wandb.name='试','验'"]
    assert for_hydra("train", ["logger.wandb.name=a-b", "tasks={}"]) == ["logger.wandb.name=a-b", "tasks={}"]


def test_an_argument_of_what_a_target_names_is_text_where_its_annotation_says_so(tmp_path: Path) -> None:
    for key in ("logger.wandb.name", "+callbacks.checkpoint.filename", "dev.Pairs-dev.half"):
        for typed in ("1e5", "2024_10", "true", "12"):
            assert for_hydra("train", [f"{key}={typed}"]) == [f"{key}='{typed}'"]
    kept = [
        "callbacks.checkpoint.save_top_k=3",
        "logger.wandb.name=null",
        "logger.wandb.name=${seed}",
        "logger.csv.version=7",
    ]
    kept += [
        "+trainer.extra.limit_train_batches=1_0",
        "+logger.wandb.other=1e5",
        "+callbacks.none.x=1e5",
        "tasks.STS12.pairs=1_0",
    ]
    assert for_hydra("train", kept) == kept
    assert for_hydra("train", ["-m", "logger.wandb.name=1e5,b"]) == ["-m", "logger.wandb.name='1e5',b"]
    assert for_hydra("train", ["logger.wandb.tags=[1e5,b]"]) == ["logger.wandb.tags=['1e5',b]"]
    own = ["+tasks.mine._target_=simcse_lit.evaluation.sts.file", "+tasks.mine.path=2024_10", "+tasks.mine.columns=[1,2,3]"]
    assert for_hydra("evaluate", own)[1:] == ["+tasks.mine.path='2024_10'", "+tasks.mine.columns=['1','2','3']"]
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "x.yaml").write_text("mine: {_target_: simcse_lit.evaluation.sts.file, path: a.csv}\n")
    for option in (["--config-dir", str(tmp_path)], [f"--config-dir={tmp_path}"]):
        assert for_hydra("train", [*option, "dev.mine.path=2024_10"])[-1] == "dev.mine.path='2024_10'"


def test_the_values_of_hydras_options_are_left_alone() -> None:
    words = ["--config-dir", "my conf (1)/a=b", "-cd=x y", "--cfg", "job"]
    assert for_hydra("train", words) == words


def test_options_and_words_may_be_mixed() -> None:
    """Hydra's parser takes no more words behind an option that stands behind words."""
    assert for_hydra("train", ["seed=1", "-m", "name=a b", "--cfg", "job", "x=1"]) == [
        "-m", "--cfg", "job", "seed=1", "name=a b", "x=1",
    ]  # fmt: skip
    assert for_hydra("train", ["seed=2", "--cfg", "job"], ["--config-dir=a b", "name='c d'", "seed=1"]) == [
        "--config-dir=a b", "--cfg", "job", "name='c d'", "seed=1", "seed=2",
    ]  # fmt: skip


def test_a_run_folder_may_be_named_by_other_keys_and_by_any_text() -> None:
    assert for_hydra("train", ["hydra.run.dir=runs/${seed} (1)"]) == ["hydra.run.dir='runs/${seed} (1)'"]
    assert for_hydra("train", ["-m", "hydra.sweep.dir=a,b"]) == ["-m", "hydra.sweep.dir='a,b'"]
    assert for_hydra("train", ["hydra.run.dir=2024_10"]) == ["hydra.run.dir='2024_10'"]


def test_a_home_folder_is_meant_where_a_run_folder_begins_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell replaces no ~ in the middle of a word, and Hydra would make a folder of that name."""
    monkeypatch.setenv("HOME", "/home/me")
    assert for_hydra("train", ["hydra.run.dir=~/r"]) == ["hydra.run.dir=/home/me/r"]
    assert for_hydra("train", ["-m", "hydra.sweep.dir='~/r 1'"]) == ["-m", "hydra.sweep.dir=/home/me/r 1"]


def test_literal_survives_instantiation() -> None:
    node = {"a": "${b}", "c": [r"\${d}", 1, None], "e": {"f": "x"}}
    assert OmegaConf.to_container(OmegaConf.create(literal(node)), resolve=True) == node
