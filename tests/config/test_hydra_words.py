"""The words of Hydra, OmegaConf, logging and torch that messages are made from; each is provoked here."""

import logging.config
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch.utils.data import DataLoader

from simcse_lit.config import CONF_DIR, hydra_words
from simcse_lit.config.hydra_words import explain
from simcse_lit.errors import UserError


def raised(provoke: Callable[[], object]) -> Exception:
    try:
        provoke()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def composing(verb: str, *overrides: str) -> Exception:
    def provoke() -> None:
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            config = compose(verb, ["run_dir=unused", *overrides] if verb == "train" else list(overrides))
        OmegaConf.to_container(config, resolve=True, throw_on_missing=True)

    return raised(provoke)


def words(error: Exception) -> str:
    return f"{error}\n{getattr(error, 'msg', '')}\n{error.__cause__}"


def test_a_missing_value() -> None:
    error = composing("train", "model=default")
    assert hydra_words.MISSING_VALUE in words(error)
    assert explain(error, "train") == "model.name_or_path: has no value. Set it: model.name_or_path=..."


def test_simcse_data_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIMCSE_DATA", raising=False)
    error = composing("train", "experiment=miniature-sup")
    assert hydra_words.NO_SIMCSE_DATA in words(error)
    told = explain(error, "train")
    assert told is not None and told.startswith("model.name_or_path: the environment variable SIMCSE_DATA is not set.\n")


def test_a_number_where_a_list_belongs() -> None:
    error = composing("train", "data.columns=5")
    assert hydra_words.NO_LIST in words(error)
    assert explain(error, "train") == "data.columns: needs a list: data.columns=[...]."


@pytest.mark.parametrize("typed", ["+pooler.name=mine", "pooler={name: mine, _target_: mine.Pooler}"])
def test_a_key_of_a_group_without_an_option(typed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    error = composing("evaluate", "checkpoint=none", typed)
    assert str(error).startswith(hydra_words.KEY_OF_NOTHING)
    monkeypatch.setattr("sys.argv", ["evaluate", typed])
    told = explain(error, "evaluate")
    assert told is not None and "type: --config-dir FOLDER pooler=NAME" in told


def test_a_group_that_is_null(monkeypatch: pytest.MonkeyPatch) -> None:
    error = composing("train", "logger=null")
    assert str(error).startswith(hydra_words.NULL_GROUP)
    monkeypatch.setattr("sys.argv", ["train", "logger=null", "data.template=null"])  # a key may be null
    told = explain(error, "train")
    assert told is not None and told.startswith("logger=null: a group cannot be null.")


def test_a_group_of_another_verb() -> None:
    error = composing("encode", "adapter=lora")
    unused = hydra_words.NO_GROUP.match(str(error))
    assert unused is not None and unused[1] == "adapter"
    assert explain(error, "encode") == "adapter: encode has no such group. Its groups and keys: --help."


def test_an_option_that_is_not_there() -> None:
    error = composing("train", "model=bert-bse")
    group = hydra_words.OPTIONS_OF.search(str(error))
    assert group is not None and group[1] == "model"
    told = explain(error, "train")
    assert told is not None and told.startswith(
        "model=bert-bse: there is no such option. Did you mean bert-base?\nOptions: "
    )
    assert "bert-large" in told and "\t" not in told


def test_an_option_of_a_list_that_is_not_there() -> None:
    error = composing("train", "tasks=[STS12,STS133]")
    listed = hydra_words.NO_OPTION_OF_A_LIST.search(str(error))
    assert listed is not None and (listed[1], listed[2]) == ("tasks", "STS133")
    told = explain(error, "train")
    assert told is not None and told.startswith("tasks=STS133: there is no such option. Did you mean STS13?\nOptions: CR, ")


def test_a_log_file_that_cannot_be_made(tmp_path: Path) -> None:
    handler = {"class": "logging.FileHandler", "filename": str(tmp_path / "none" / "x.log")}
    error = raised(lambda: logging.config.dictConfig({"version": 1, "handlers": {"file": handler}}))
    assert isinstance(error, ValueError) and hydra_words.NO_LOG_FILE in str(error)
    told = explain(error, "train")
    assert told is not None and told.startswith("hydra.run.dir: the run folder cannot be written: ")


class _Broken:
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        raise UserError("corpus.txt, line 3: is blank.")


def test_a_message_from_a_data_loaders_worker() -> None:
    error = raised(lambda: list(DataLoader(_Broken(), num_workers=1)))  # type: ignore[arg-type]
    assert isinstance(error, UserError) and hydra_words.IN_A_WORKER in str(error)
    assert explain(error, "train") == "corpus.txt, line 3: is blank."
    error.__traceback__ = None  # it holds the loader, for whose worker the garbage collector would wait five seconds


def test_a_key_without_a_value() -> None:
    error = composing("train", "loss.temperature")
    assert explain(error, "train") == "loss.temperature: has no value. Set it: loss.temperature=VALUE"


def test_what_the_file_system_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.setattr("sys.argv", ["encode", "input=x.txt", "output=~nobody9/v.npy"])
    told = []
    for refused in (
        lambda: (tmp_path / "file" / "a").mkdir(),
        lambda: (tmp_path / ("x" * 300)).touch(),
        lambda: (tmp_path / "loop").resolve(strict=True),
        lambda: Path("~nobody9/v.npy").expanduser(),
    ):
        with pytest.raises((OSError, RuntimeError)) as error:
            refused()
        told.append(explain(error.value, "encode") or "")
    assert told[0].startswith(f"{tmp_path / 'file' / 'a'}: cannot be written or read: Not a directory.")
    assert "File name too long" in told[1]
    assert str(tmp_path / "loop") in told[2]
    assert told[3].startswith("output=~nobody9/v.npy: ") and "full path" in told[3]


def test_what_the_user_cannot_mend_has_no_message() -> None:
    assert explain(RuntimeError("a bug"), "train") is None
