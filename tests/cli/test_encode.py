"""`python -m simcse_lit.encode` and `.similarity`: formats, order, bad rows, runs that are stopped and go on."""

import csv
import io
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hydra import compose, initialize_config_dir
from pyarrow import parquet
from safetensors.numpy import load_file
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

from simcse_lit.cli import tasks
from simcse_lit.config import CONF_DIR
from simcse_lit.config.checks.encode import validate_encode, validate_similarity
from simcse_lit.config.resolvers import local_path
from simcse_lit.config.schema import EncodeConfig
from simcse_lit.encode import main as encode
from simcse_lit.encoding.memory import KERNELS
from simcse_lit.encoding.output import VectorFile
from simcse_lit.errors import UserError
from simcse_lit.similarity import similarity
from tests.conftest import Cli

TINY = local_path("pkg://simcse_lit/data/samples/tiny", "test")
TEXTS = [f"Line {place} tells of " + "rivers and hills " * (place % 6) for place in range(11)] + ["twice", "twice"]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    torch.manual_seed(0)
    BertModel(BertConfig.from_pretrained(TINY)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(TINY).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def expected(raw: Path) -> np.ndarray:
    """The first token's vector of every text, one text at a time, of length 1."""
    bert, tokenizer = AutoModel.from_pretrained(raw).eval(), AutoTokenizer.from_pretrained(raw)
    with torch.inference_mode():
        rows = [bert(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, 0].numpy() for text in TEXTS]
    return np.stack([row / np.linalg.norm(row) for row in rows])


def config(raw: Path, *overrides: str) -> EncodeConfig:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return validate_encode(compose("encode", [f"checkpoint={raw}", "pooler=cls", "block=4", *overrides]))


def write(path: Path, texts: list[str]) -> Path:
    if path.suffix == ".txt":
        path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"number": 1, "text": text}) + "\n" for text in texts), encoding="utf-8")
    elif path.suffix == ".parquet":
        parquet.write_table(pa.table({"text": texts}), path)
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            delimiter = "," if path.suffix == ".csv" else "\t"
            csv.writer(file, delimiter=delimiter).writerows([["number", "text"], *(["1", text] for text in texts)])
    return path


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_format_is_read_in_its_order(raw: Path, expected: np.ndarray, tmp_path: Path, suffix: str) -> None:
    file = write(tmp_path / f"in{suffix}", TEXTS)
    column = ["column=text"] if suffix in (".csv", ".tsv", ".jsonl") else []
    encode(config(raw, f"input={file}", f"output={tmp_path / 'out.npy'}", *column))
    found = np.load(tmp_path / "out.npy")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([file.name, "out.npy"])


def test_every_format_is_written(raw: Path, expected: np.ndarray, tmp_path: Path) -> None:
    file = write(tmp_path / "in.txt", TEXTS)
    for suffix in (".npy", ".safetensors", ".parquet"):
        encode(config(raw, f"input={file}", f"output={tmp_path / 'deep' / f'out{suffix}'}"))
    npy = np.load(tmp_path / "deep" / "out.npy", mmap_mode="r")
    tensors = load_file(tmp_path / "deep" / "out.safetensors")
    table = parquet.ParquetFile(tmp_path / "deep" / "out.parquet")
    assert list(tensors) == ["vectors"]
    np.testing.assert_array_equal(tensors["vectors"], npy)
    assert table.num_row_groups == 4
    rows = table.read().to_pydict()
    np.testing.assert_array_equal(np.array(rows["vector"], np.float32), npy)
    assert rows["text"] == TEXTS
    assert rows["line"] == list(range(1, 14))
    encode(config(raw, f"input={file}", f"output={tmp_path / 'long.npy'}", "normalize=false"))
    lengths = np.linalg.norm(np.load(tmp_path / "long.npy"), axis=1, keepdims=True)
    assert lengths.max() > 1.5
    np.testing.assert_allclose(np.load(tmp_path / "long.npy") / lengths, expected, atol=1e-5)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("suffix", [".npy", ".safetensors", ".parquet"])
@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_run_that_dies_goes_on_and_gives_the_same_bytes(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, after: int
) -> None:
    file = write(tmp_path / "in.txt", TEXTS)
    encode(config(raw, f"input={file}", f"output={tmp_path / f'whole{suffix}'}"))
    append, calls = VectorFile.append, 0

    def dying(self: VectorFile, vectors: np.ndarray) -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            if self._partial.exists():
                with self._partial.open("ab") as partial:
                    partial.write(b"half a block")
            raise Killed
        append(self, vectors)

    stopped = config(raw, f"input={file}", f"output={tmp_path / f'stopped{suffix}'}")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(VectorFile, "append", dying)
        encode(stopped)
    assert not (tmp_path / f"stopped{suffix}").exists()
    encoded: list[int] = []

    def counting(self: VectorFile, vectors: np.ndarray) -> None:
        encoded.append(len(vectors))
        append(self, vectors)

    monkeypatch.setattr(VectorFile, "append", counting)
    encode(stopped)
    assert encoded == [4, 4, 4, 1][after:]
    assert (tmp_path / f"stopped{suffix}").read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["in.txt", f"whole{suffix}", f"stopped{suffix}"])


def test_what_a_stopped_run_left_is_not_mixed_with_something_else(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "in.txt", TEXTS)
    output = f"output={tmp_path / 'out.npy'}"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(VectorFile, "finish", lambda *_: (_ for _ in ()).throw(Killed))
        encode(config(raw, f"input={file}", output))
    with pytest.raises(UserError, match=r"\.out\.npy\.simcse_lit: was left by a run with another block, normalize"):
        encode(config(raw, f"input={file}", output, "normalize=false", "block=5"))
    write(file, ["changed", *TEXTS[1:]])
    with pytest.raises(UserError, match=r"with another input\.\n.*remove \.out\.npy\.simcse_lit\*"):
        encode(config(raw, f"input={file}", output))
    write(file, TEXTS)
    encode(config(raw, f"input={file}", output))
    with pytest.raises(UserError, match=r"out\.npy: already exists"):
        encode(config(raw, f"input={file}", output))


def test_bad_rows_stop_the_run_before_it_encodes_or_are_left_out(
    raw: Path, expected: np.ndarray, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = write(tmp_path / "in.txt", [TEXTS[0], "", TEXTS[1], "   ", TEXTS[2]])
    output = tmp_path / "out.parquet"
    with pytest.raises(UserError, match=r"in\.txt, line 2: text is blank\n.*line 4: text is blank\n.*on_bad_row=skip"):
        encode(config(raw, f"input={file}", f"output={output}"))
    encode(config(raw, f"input={file}", f"output={output}", "on_bad_row=skip"))
    assert "Skipped 2 unusable rows" in caplog.text and "line 4" in caplog.text
    rows = parquet.read_table(output).to_pydict()
    assert rows["line"] == [1, 3, 5]
    np.testing.assert_allclose(np.array(rows["vector"]), expected[:3], atol=1e-5)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["input=in.csv", "output=o.npy"],
            r"column: .*in\.csv has several columns: number, text\.\nChoose one: column=number",
        ),
        (["input=in.csv", "output=o.npy", "column=txt"], "column=txt: .* has no such column. Its columns: number, text"),
        (["input=in.txt", "output=o.npy", "column=txt"], "column=txt: .* is plain text"),
        (
            ["input=no-header.csv", "output=o.npy"],
            r"line 1 is read as its header, 'A man plays\.'\.\n.*rename the file.*\.txt",
        ),
        (["input=empty.txt", "output=o.npy"], r"empty\.txt: has no usable rows"),
        (["input=none.txt", "output=o.npy"], r"input: none\.txt: there is no such file"),
        (["input=in.txt", "output=o.csv"], r"output=o\.csv: unknown format '\.csv'\. Use one of \.npy"),
        (["input=in.txt"], "output: has no value"),
        (["output=o.npy"], "input: has no value"),
        (["input=in.txt", "output=in.txt/o.npy"], r"output: in\.txt/o\.npy: cannot be written: File exists .in.txt."),
        (["input=in.txt", "output=o.npy", "checkpoint=null"], "checkpoint: has no value"),
        (["input=in.txt", "output=o.npy", "precision=half"], "precision=half: not one of 32-true"),
        (["input=in.txt", "output=o.npy", "block=0"], "block=0: must be"),
        (["input=in.txt", "output=o.npy", "device=moon"], "device=moon: this machine has no such device"),
    ],
)
def test_a_mistake_is_named(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in.csv", TEXTS)
    write(tmp_path / "in.txt", TEXTS)
    write(tmp_path / "empty.txt", [])
    (tmp_path / "no-header.csv").write_text("A man plays.\nRain.\n")
    with pytest.raises(UserError, match=message):
        encode(config(raw, *overrides))
    assert not any(path.name.startswith("o.") for path in tmp_path.iterdir())


def test_a_killed_command_goes_on(raw: Path, tmp_path: Path) -> None:
    """SIGKILL in a real process; then byte for byte what one run gives."""
    file = write(tmp_path / "in.txt", [f"{text} {place}" for place, text in enumerate(TEXTS * 400)])
    arguments = [f"checkpoint={raw}", "pooler=cls", "block=64", f"input={file}", f"output={tmp_path / 'killed.npy'}"]
    process = subprocess.Popen([sys.executable, "-m", "simcse_lit.encode", *arguments], stderr=subprocess.DEVNULL)
    record = tmp_path / ".killed.npy.simcse_lit.json"
    while not record.exists():
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -9
    assert 0 < json.loads(record.read_text())["rows"] < len(TEXTS) * 400
    encode(config(raw, *arguments[2:]))
    encode(config(raw, *arguments[2:-1], f"output={tmp_path / 'whole.npy'}"))
    assert (tmp_path / "killed.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.txt", "killed.npy", "whole.npy"]


def test_standard_input_is_a_text_a_line_and_goes_on_too(
    raw: Path, expected: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = config(raw, "input=-", f"output={tmp_path / 'out.npy'}")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("".join(f"{text}\n" for text in TEXTS).encode())))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(VectorFile, "finish", lambda *_: (_ for _ in ()).throw(Killed))
        encode(asked)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"fine\n\n")))
    with pytest.raises(UserError, match="standard input, line 2: text is blank"):
        encode(asked)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("".join(f"{text}\n" for text in TEXTS).encode())))
    encode(asked)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, atol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["out.npy"]


def similar(raw: Path, first: str, second: str) -> list[float]:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        composed = compose("similarity", [f"checkpoint={raw}", "pooler=cls"])
    composed.first, composed.second = first, second
    return list(similarity(validate_similarity(composed)))


def test_similarities_of_sentences_and_of_files(raw: Path, expected: np.ndarray, tmp_path: Path) -> None:
    assert similar(raw, TEXTS[0], TEXTS[3]) == [pytest.approx(expected[0] @ expected[3], abs=1e-5)]
    left = str(write(tmp_path / "left.txt", TEXTS[:5]))
    right = str(write(tmp_path / "right.parquet", TEXTS[3:8]))
    assert similar(raw, left, right) == pytest.approx((expected[:5] * expected[3:8]).sum(axis=1).tolist(), abs=1e-5)
    with pytest.raises(UserError, match=r"second: a sentence: there is no such file"):
        similar(raw, left, "a sentence")
    with pytest.raises(UserError, match="5 and 4 texts"):
        similar(raw, left, str(write(tmp_path / "right.txt", TEXTS[:4])))


def test_files_of_similarity_are_named_as_those_of_every_command(
    raw: Path, expected: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "left.txt", TEXTS[:5])
    here = str(write(tmp_path / "right.txt", TEXTS[3:8]))
    cosines = pytest.approx((expected[:5] * expected[3:8]).sum(axis=1).tolist(), abs=1e-5)
    assert similar(raw, "~/left.txt", here) == cosines
    monkeypatch.setattr("simcse_lit.text.hub.download", lambda name, *_, **__: [tmp_path / Path(name).name])
    assert similar(raw, "hf://datasets/some/texts/left.txt", here) == cosines
    assert similar(raw, f"file://{tmp_path}/left.txt", here) == cosines
    sample = "pkg://simcse_lit/data/samples/wikipedia.txt"
    assert len(similar(raw, sample, str(local_path(sample, "test")))) == 1296
    for missing, message in (
        ("~/none.txt", r"first: ~/none\.txt: there is no such file"),
        ("pkg://simcse_lit/none.txt", r"first: pkg://simcse_lit/none\.txt: the installed package"),
        ("./none.txt", r"first: \./none\.txt: there is no such file"),
    ):
        with pytest.raises(UserError, match=message):
            similar(raw, missing, here)
    for sentence in ("~ 5 people came.", "~nobody came.", "And/or a slash.", "... and then?", "a\0b"):
        assert similar(raw, sentence, sentence) == [pytest.approx(1)]


@pytest.mark.parametrize(
    ("command", "overrides"),
    [
        ("encode", ["input={}", "output=out.npy"]),
        ("similarity", ["first={}", "second=b"]),
        ("index", ["folder=ix", "input={}"]),
        ("index", ["folder=ix", "add={}"]),
        ("search", ["folder=ix", "input={}"]),
        ("serve", ["corpus={}"]),
    ],
)
def test_a_file_of_the_hub_is_asked_for_offline_where_the_hub_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, command: str, overrides: list[str]
) -> None:
    def asked(needed: bool) -> None:
        raise Killed(needed)

    monkeypatch.setattr(tasks, "use_cache_when_unreachable", asked)
    for file, needed in (("hf://datasets/some/texts/a.txt", True), ("a.txt", False)):
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"), pytest.raises(Killed, match=str(needed)):
            tasks.task_of(command)(compose(command, ["checkpoint=./here", *(one.format(file) for one in overrides)]))


def test_the_command_prints_one_number_for_sentences_that_mean_something_to_hydra(warm_cli: Cli, raw: Path) -> None:
    strange = 'A man, he\'s (old): {x=1} [$y] "said" \\n, 50%'
    done = warm_cli(f"checkpoint={raw}", "pooler=cls", f"first={strange}", f"second={strange}", command="similarity")
    assert (done.returncode, done.stdout) == (0, "1.0000\n"), done.stderr


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this build of torch has no oneDNN")
def test_kernels_of_shapes_long_past_are_not_kept(raw: Path, tmp_path: Path, warm_cli: Cli) -> None:
    """oneDNN says when it makes a kernel; the second half has the shapes of the first, more of them than are kept."""
    draw = random.Random(0)
    half = [" ".join(draw.choices(["river", "hill"], k=draw.randint(1, 60))) for _ in range(50 * 48)]
    file = write(tmp_path / "in.txt", half * 2)
    made = {}
    for kept, env in {"ours": {}, "the user's": {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "5000"}}.items():
        settings = [f"checkpoint={raw}", "pooler=cls", "block=48", f"input={file}", f"output={kept}.npy"]
        done = warm_cli(*settings, command="encode", env={"ONEDNN_VERBOSE": "profile_create", **env})
        assert done.returncode == 0, done.stderr
        made[kept] = done.stdout.count("create:cache_miss")
    assert made["the user's"] > KERNELS
    assert made["ours"] > 1.5 * made["the user's"]
    np.testing.assert_array_equal(np.load(tmp_path / "ours.npy"), np.load(tmp_path / "the user's.npy"))
