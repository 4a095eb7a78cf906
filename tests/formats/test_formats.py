"""The group `format`: which function writes an export, its own arguments, and what the card says of it."""

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException

from simcse_lit.config import CONF_DIR, options
from simcse_lit.config.checks.export import validate_export
from simcse_lit.config.hydra_words import explain
from simcse_lit.errors import UserError
from simcse_lit.formats.convert import export_as, writer
from simcse_lit.formats.loading import LoadedEncoder, load_encoder
from simcse_lit.formats.usage import Usage
from tests.architectures import save_model
from tests.conftest import Cli

OWN = """
from simcse_lit.formats.usage import Usage

def write(loaded, folder, stem="vocabulary"):
    (folder / f"{stem}.txt").write_text("\\n".join(loaded.tokenizer.get_vocab()))
    return Usage("pathlib", f'print(open("{stem}.txt").read())')
"""


def export_config(*overrides: str) -> Any:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return validate_export(compose("export", ["checkpoint=none", "output=none", *overrides]))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"), "bert")


@pytest.fixture
def loaded(model: Path) -> LoadedEncoder:
    return load_encoder(str(model), revision=None, pooler="cls", projection=None)


def write_nothing(loaded: LoadedEncoder, folder: Path, lines: int) -> Usage:
    (folder / "file.txt").write_text("line\n" * lines)
    return Usage("my library", "print('hello')")


def say_nothing(loaded: LoadedEncoder, folder: Path) -> None: ...


def take_nothing() -> Usage:
    return Usage("", "")


@pytest.mark.parametrize("name", options("format"))
def test_each_format_is_its_files_name_and_names_its_function(name: str) -> None:
    config = export_config(f"format={name}")
    assert config.format["name"] == name
    writer(config.format)


def test_int8_is_an_argument_of_onnx_alone() -> None:
    assert export_config("format=onnx", "int8=true").format["int8"] is True
    assert export_config("format=onnx").format["int8"] is False
    with pytest.raises(UserError, match=r"^int8=true format=transformers: only format=onnx supports int8\.$"):
        export_config("int8=true")


def test_a_misspelt_format_is_answered_with_the_nearest() -> None:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"), pytest.raises(HydraException) as caught:
        compose("export", ["format=onx"])
    assert explain(caught.value, "export") == (
        "format=onx: there is no such option. Did you mean onnx?\nOptions: onnx, sentence-transformers, transformers"
    )


def test_a_function_of_ones_own_writes_the_folder_and_its_card_says_how_to_load_it(
    loaded: LoadedEncoder, tmp_path: Path
) -> None:
    write = writer({"name": "lines", "_target_": f"{__name__}.write_nothing", "lines": 3})
    export_as(loaded, tmp_path / "out", write)
    assert (tmp_path / "out" / "file.txt").read_text() == "line\n" * 3
    card = (tmp_path / "out" / "README.md").read_text()
    assert "library_name: my library\n" in card and "```python\nprint('hello')\n```" in card


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"name": "x"}, r"format\._target_: has no value"),
        ({"_target_": f"{__name__}.no_such"}, r"format\._target_=.*no_such: cannot be imported"),
        ({"_target_": f"{__name__}.write_nothing"}, r"format\.lines: has no value, but write_nothing needs one"),
        ({"_target_": f"{__name__}.write_nothing", "line": 3}, r"format\.line: write_nothing takes no .* mean lines\?"),
        (
            {"_target_": f"{__name__}.take_nothing"},
            r"take_nothing: takes no argument loaded and no argument folder, but is called with",
        ),
    ],
)
def test_a_format_that_cannot_be_written_is_named_before_the_model_is_loaded(node: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        writer(node)


def test_a_function_that_does_not_say_how_its_folder_is_used_leaves_none(loaded: LoadedEncoder, tmp_path: Path) -> None:
    write = writer({"name": "x", "_target_": f"{__name__}.say_nothing"})
    with pytest.raises(
        UserError, match=r"format\._target_=.*say_nothing: returned None\. It must return a simcse_lit\.formats"
    ):
        export_as(loaded, tmp_path / "out", write)
    assert not (tmp_path / "out").exists()


def test_the_command_takes_a_format_from_a_folder_of_configuration(warm_cli: Cli, tmp_path: Path, model: Path) -> None:
    (tmp_path / "lab_formats.py").write_text(OWN)
    (tmp_path / "conf" / "format").mkdir(parents=True)
    file = tmp_path / "conf" / "format" / "words.yaml"
    file.write_text("name: words\n_target_: lab_formats.write\nending: txt\n")
    asked = (f"checkpoint={model}", "pooler=cls", "output=out", "--config-dir", "conf", "format=words")
    wrong = warm_cli(*asked, command="export", env={"PYTHONPATH": str(tmp_path)})
    assert wrong.returncode == 1
    assert "format.ending: write takes no such argument.\nIt takes: stem." in wrong.stderr
    file.write_text("name: words\n_target_: lab_formats.write\n")
    done = warm_cli(*asked, command="export", env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"vocabulary.txt", "README.md"}
