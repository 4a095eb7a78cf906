"""A model's own Python code runs only if the user's key says so: never by a question, and never because a file says so."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModel, BertModel

from simcse_lit import SimCSE
from simcse_lit.config.replay import earlier_words
from simcse_lit.config.signature import sign
from simcse_lit.encoding.passes import encode
from simcse_lit.errors import UserError
from simcse_lit.formats.convert import export_as
from simcse_lit.formats.export import Provenance, export
from simcse_lit.formats.loading import LoadedEncoder, load_encoder
from simcse_lit.formats.paper_checkpoint import read_paper_checkpoint
from tests.architectures import SENTENCES, save_model
from tests.cli.test_folders import foreign
from tests.conftest import OLD, Cli, train_config
from tests.formats.writers import WRITERS

CODE = """
from pathlib import Path
from transformers import BertConfig, BertModel

Path(MARK).write_text("ran")

class MineConfig(BertConfig):
    model_type = "mine"

class MineModel(BertModel):
    config_class = MineConfig
"""


@pytest.fixture(autouse=True)
def nobody_at_the_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An answer of yes waits on standard input; whoever asks gets it. What is trusted is imported below this folder."""
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 100))
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))


def own_model(folder: Path, *, model_type: str = "mine") -> tuple[Path, Path]:
    """A BERT that brings its own code, and the file that this code writes when it is run."""
    mark = folder.parent / f"{folder.name}-ran"
    save_model(folder, "bert")
    (folder / "modeling_mine.py").write_text(CODE.replace("MARK", repr(str(mark))))
    config = json.loads((folder / "config.json").read_text())
    classes = {"AutoConfig": "modeling_mine.MineConfig", "AutoModel": "modeling_mine.MineModel"}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": model_type, "auto_map": classes}))
    return folder, mark


def load(source: Path, pooler: str | None = None, *, trusted: bool = False) -> LoadedEncoder:
    return load_encoder(str(source), revision=None, pooler=pooler, projection=None, trust_remote_code=trusted)


def vectors(loaded: LoadedEncoder) -> Tensor:
    return encode(loaded.encoder, loaded.tokenizer, SENTENCES)


def bert_vectors(folder: Path) -> Tensor:
    """By transformers' own BERT with the same weights."""
    plain = folder.parent / "plain"
    shutil.copytree(folder, plain, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    del config["auto_map"]
    (plain / "config.json").write_text(json.dumps({**config, "model_type": "bert"}))
    return vectors(load(plain, "avg"))


def test_a_raw_model_is_refused_with_its_files_and_the_key_and_runs_once_it_is_trusted(tmp_path: Path) -> None:
    folder, mark = own_model(tmp_path / "mine")
    with pytest.raises(UserError) as refused:
        load(folder, "avg")
    for part in (f"checkpoint: {folder}: ", "modeling_mine.py", "Nothing was run", "trust_remote_code=true"):
        assert part in str(refused.value)
    with pytest.raises(UserError, match="modeling_mine"):
        SimCSE(str(folder), "cpu", pooler="avg")
    assert not mark.exists()
    torch.testing.assert_close(vectors(load(folder, "avg", trusted=True)), bert_vectors(folder), rtol=0, atol=1e-6)
    assert mark.exists()
    assert SimCSE(str(folder), "cpu", pooler="avg", trust_remote_code=True).encode("Rain .").shape == (32,)


def test_an_architecture_that_transformers_knows_is_loaded_by_its_code_alone(tmp_path: Path) -> None:
    folder, mark = own_model(tmp_path / "mine", model_type="bert")
    loaded = load(folder, "avg")
    torch.testing.assert_close(vectors(loaded), bert_vectors(folder), rtol=0, atol=1e-6)
    assert not mark.exists()
    export_as(loaded, tmp_path / "export", WRITERS["transformers"])
    assert not list((tmp_path / "export").glob("*.py"))
    assert "auto_map" not in json.loads((tmp_path / "export" / "config.json").read_text())
    assert type(AutoModel.from_pretrained(tmp_path / "export")) is BertModel


@pytest.mark.parametrize("classes", [None, [], ["AutoConfig"], 7, "AutoConfig", {"AutoConfig": None}, {"AutoModel": 7}])
@pytest.mark.parametrize("model_type", ["mine", "bert"])
def test_a_malformed_auto_map_is_refused_or_not_read(tmp_path: Path, classes: Any, model_type: str) -> None:
    folder, mark = own_model(tmp_path / "mine", model_type=model_type)
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "auto_map": classes}))
    try:
        load(folder, "avg")
    except UserError as error:
        assert str(error).startswith(f"checkpoint: {folder}: ")
    else:
        assert model_type == "bert"
    assert not mark.exists()


@pytest.mark.parametrize(
    ("key", "value"), [("hidden_size", "x"), ("num_attention_heads", 0), ("hidden_act", "nope"), ("simcse", {"pooler": []})]
)
def test_a_value_of_a_wrong_type_in_an_export_is_refused_in_one_line(tmp_path: Path, key: str, value: Any) -> None:
    shutil.copytree(OLD / "export", tmp_path / "export")
    path = tmp_path / "export" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(UserError, match="export"):
        load(tmp_path / "export")


def test_an_export_without_its_tokenizer_is_refused(tmp_path: Path) -> None:
    shutil.copytree(OLD / "export", tmp_path / "export")
    (tmp_path / "export" / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="has no tokenizer"):
        load(tmp_path / "export")


def test_a_tokenizer_of_its_own_is_refused(tmp_path: Path) -> None:
    folder, mark = own_model(tmp_path / "mine", model_type="bert")
    (folder / "tokenization_mine.py").write_text(CODE.replace("MARK", repr(str(mark))))
    path = folder / "tokenizer_config.json"
    own = {"tokenizer_class": "MineTokenizer", "auto_map": {"AutoTokenizer": ["tokenization_mine.MineTokenizer", None]}}
    path.write_text(json.dumps({**json.loads(path.read_text()), **own}))
    (folder / "config.json").write_text(
        json.dumps({**json.loads((folder / "config.json").read_text()), "model_type": "mine"})
    )
    with pytest.raises(UserError, match=r"tokenization_mine\.py(.|\n)*trust_remote_code=true"):
        load(folder, "avg")
    assert not mark.exists()


def test_an_export_takes_the_code_along_and_asks_for_trust_anew(tmp_path: Path) -> None:
    folder, mark = own_model(tmp_path / "mine")
    loaded = load(folder, "avg", trusted=True)
    expected = vectors(loaded)
    encoder: Any = loaded.encoder
    export(encoder, loaded.tokenizer, tmp_path / "export", max_length=32, provenance=Provenance("mine", "unsup"))
    mark.unlink()
    with pytest.raises(UserError, match=r"modeling_mine\.py(.|\n)*trust_remote_code=true"):
        load(tmp_path / "export")
    assert not mark.exists()
    shutil.rmtree(folder)
    torch.testing.assert_close(vectors(load(tmp_path / "export", trusted=True)), expected, rtol=0, atol=1e-6)
    assert "trust_remote_code=True" in (tmp_path / "export" / "README.md").read_text()


def test_an_onnx_folder_of_such_a_model_needs_no_trust(tmp_path: Path) -> None:
    folder, mark = own_model(tmp_path / "mine")
    loaded = load(folder, "avg", trusted=True)
    expected = vectors(loaded)
    export_as(loaded, tmp_path / "onnx", WRITERS["onnx"])
    mark.unlink()
    torch.testing.assert_close(vectors(load(tmp_path / "onnx")), expected, rtol=0, atol=1e-4)
    assert not mark.exists()


def test_a_papers_checkpoint_runs_nothing(tmp_path: Path) -> None:
    folder, mark = own_model(tmp_path / "mine")
    weights = {
        f"bert.{name}": value for name, value in load_file(folder / "model.safetensors").items() if "pooler" not in name
    }
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"modeling_mine\.py(.|\n)*trust_remote_code=true"):
        read_paper_checkpoint(folder, tokenizer=None, pooler="avg", projection=None)
    assert not mark.exists()


def test_a_module_of_a_sentence_transformers_folder_is_refused(tmp_path: Path) -> None:
    folder, mark = own_model(tmp_path / "mine", model_type="bert")
    modules = [{"idx": 0, "name": "0", "path": "", "type": "modeling_mine.MineModel"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(UserError, match=r"modeling_mine\.py(.|\n)*trust_remote_code=true"):
        load(folder)
    assert not mark.exists()


def test_training_says_so_records_it_and_its_checkpoint_and_index_do_not_turn_it_on(warm_cli: Cli, tmp_path: Path) -> None:
    folder, mark = own_model(tmp_path / "mine")
    options = ("model=default", f"model.name_or_path={folder}", "data=samples", "trainer=cpu", "trainer.max_steps=1")
    quick = (
        "senteval.from_hub=false",
        "evaluation.before=false",
        "evaluation.test=false",
        "hydra.run.dir=run",
        "pooler=avg",
    )
    modules = {"HF_MODULES_CACHE": str(tmp_path / "modules")}

    def run(*arguments: str, command: str = "train") -> Any:
        return warm_cli(*arguments, command=command, env=modules)

    refused = run(*options, *quick)
    assert refused.returncode == 1
    assert "modeling_mine.py" in refused.stderr and "model.trust_remote_code=true" in refused.stderr
    assert "[y/N]" not in refused.stdout + refused.stderr and not mark.exists()
    done = run(*options, *quick, "model.trust_remote_code=true")
    assert done.returncode == 0, done.stderr
    assert "trust_remote_code: true" in (tmp_path / "run" / "config.yaml").read_text()
    mark.unlink()
    (best,) = (tmp_path / "run" / "checkpoints").glob("best-*.ckpt")
    assert torch.load(best, weights_only=True)["simcse"]["model"]["trust_remote_code"] is True
    built = run("folder=ix", "input=pkg://simcse_lit/data/samples/wikipedia.txt", "checkpoint=run/export",
                "trust_remote_code=true", command="index")  # fmt: skip
    assert built.returncode == 0, built.stderr
    mark.unlink()
    for command, arguments in (
        ("evaluate", [f"checkpoint={best}", "tasks=samples"]),
        ("evaluate", ["checkpoint=run/export", "tasks=samples"]),
        ("search", ["folder=ix", "query=Rain"]),
        ("export", [f"checkpoint={best}", "output=o"]),
    ):
        refused = run(*arguments, command=command)
        assert refused.returncode == 1, (command, arguments)
        assert "modeling_mine.py" in refused.stderr and " trust_remote_code=true" in refused.stderr
        assert not mark.exists()
    trusted = run("folder=ix", "query=Rain", "trust_remote_code=true", command="search")
    assert trusted.returncode == 0, trusted.stderr
    torch.testing.assert_close(
        vectors(load(best, trusted=True)), vectors(load(tmp_path / "run" / "export", trusted=True)), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("trusting", ["model.trust_remote_code=true", "++model={trust_remote_code: true}"])
def test_a_run_of_a_stranger_that_is_continued_asks_for_trust_anew(tmp_path: Path, trusting: str) -> None:
    folder = foreign(tmp_path / "run", "seed=3", trusting)
    resume, place = f"resume={folder}", f"hydra.run.dir='{folder}'"
    with pytest.raises(UserError, match="was not written by a run of yours"):
        earlier_words([resume])
    if trusting.startswith("model."):
        assert earlier_words([resume, trusting])[-3:] == ["seed=3", trusting, place]
    sign(folder)  # as a run of one's own is
    assert earlier_words([resume])[-3:] == ["seed=3", trusting, place]


def test_it_is_off_unless_the_user_says_otherwise() -> None:
    assert train_config().model.trust_remote_code is False
    assert train_config("model.trust_remote_code=true").model.trust_remote_code is True
