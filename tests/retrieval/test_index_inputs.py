"""What `index` is fed with: texts that stay as they are meanwhile, and vectors that are those of their texts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from torch import Tensor

from simcse_lit.config import CONF_DIR
from simcse_lit.config.checks.encode import validate_encode
from simcse_lit.encode import main as encode_file
from simcse_lit.encoding.input import TextFile
from simcse_lit.encoding.passes import encode
from simcse_lit.errors import UserError
from simcse_lit.retrieval.index import Index
from simcse_lit.retrieval.index_encoder import IndexEncoder, encoded_blocks
from tests.cli.test_index import TEXTS
from tests.formats.test_sentence_transformers import trained
from tests.retrieval.test_index_writers import command, files


def write(path: Path, texts: Sequence[str]) -> Path:
    path.write_text("\n".join(texts))
    return path


def made_by_encode(output: Path, *arguments: str) -> None:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        encode_file(validate_encode(compose("encode", [*arguments, f"output={output}"])))


@pytest.mark.parametrize("name", ["a.npy", "a.safetensors"])
def test_vectors_beside_texts_that_are_not_theirs_are_refused_with_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    trained(tmp_path / "export", "avg", "none")
    write(tmp_path / "a.txt", [TEXTS[0], "", *TEXTS[1:]])
    skipping = ["input=a.txt", "checkpoint=export", "on_bad_row=skip"]
    made_by_encode(tmp_path / name, *skipping, "normalize=false")
    command(*skipping, f"vectors={name}", "folder=ix", "block=2")
    write(tmp_path / "a.txt", [TEXTS[0], "", *TEXTS[1:3], TEXTS[4], TEXTS[3], TEXTS[5]])
    told = rf"vectors: {name}: a\.txt, line 5: its vector is not what checkpoint=export makes of its text \(cosine 0\."
    with pytest.raises(UserError, match=told + r"(.|\n)* encode them again\."):
        command(*skipping, f"vectors={name}", "folder=new", "block=2")
    assert [text for _, texts, _ in Index.load(tmp_path / "ix").blocks() for text in texts] == TEXTS
    assert not (tmp_path / "new").exists()


def test_vectors_of_another_encoder_than_the_one_named_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    trained(tmp_path / "export", "avg", "none")
    trained(tmp_path / "other", "cls", "mlp")
    write(tmp_path / "a.txt", TEXTS)
    made_by_encode(tmp_path / "a.parquet", "input=a.txt", "checkpoint=export")
    with pytest.raises(UserError, match=r"a\.parquet, line 1: its vector is not what checkpoint=other makes"):
        command("vectors=a.parquet", "folder=ix", "checkpoint=other")
    np.save(tmp_path / "narrow.npy", np.ones((6, 32), np.float32))
    with pytest.raises(UserError, match=r"export: makes vectors of width 64, and narrow\.npy holds vectors of width 32"):
        command("vectors=narrow.npy", "input=a.txt", "folder=ix", "checkpoint=export")
    assert not (tmp_path / "ix").exists()


@pytest.mark.parametrize(("count", "places"), [(100, [round(99 * k / 15) for k in range(16)]), (5, range(5)), (1, [0])])
def test_texts_from_the_first_to_the_last_are_compared(tmp_path: Path, count: int, places: Sequence[int]) -> None:
    vectors_NH = torch.randn(count, 8, generator=torch.Generator().manual_seed(0))
    np.save(tmp_path / "v.npy", vectors_NH.numpy())
    texts = TextFile(str(write(tmp_path / "t.txt", [str(place) for place in range(count)])), None, key="input")

    class Known(IndexEncoder):
        def __init__(self) -> None:
            self.source, self.asked = "model", list[int]()

        def __call__(self, texts: Sequence[str], use: str = "document") -> Tensor:
            self.asked += map(int, texts)
            return F.normalize(vectors_NH[[int(text) for text in texts]], dim=-1)

    encoder = Known()
    blocks = list(encoded_blocks(tmp_path / "v.npy", texts, 7, encoder))
    assert encoder.asked == list(places)
    assert [text for _, block, _ in blocks for text in block] == [str(place) for place in range(count)]
    assert torch.equal(torch.cat([vectors_BH for vectors_BH, _, _ in blocks]), vectors_NH)


@pytest.mark.parametrize("texts", [TEXTS[:3], [*TEXTS, "more"], [*TEXTS[:4], "Sleet", TEXTS[5]]])
@pytest.mark.parametrize(
    ("key", "arguments", "calls"),
    [
        ("input", ["input=a.txt"], 1),
        ("input", ["input=a.txt", "vectors=a.npy"], 1),
        ("add", ["add=a.txt"], 2),  # the first is for the texts that are there
    ],
)
def test_texts_that_change_while_they_are_indexed_stop_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, arguments: list[str], calls: int, texts: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    loaded, _ = trained(tmp_path / "export", "avg", "none")
    settings = [f"folder={'ix' if key == 'add' else 'new'}", "checkpoint=export", "block=2"]
    command("folder=ix", *settings[1:], f"input={write(tmp_path / 'b.txt', TEXTS[::-1])}")
    before = {name: (tmp_path / "ix" / name).read_bytes() for name in files(tmp_path / "ix")}
    write(tmp_path / "a.txt", TEXTS)
    np.save(tmp_path / "a.npy", encode(loaded.encoder, loaded.tokenizer, TEXTS).numpy())
    call, done = IndexEncoder.__call__, 0

    def late(self: IndexEncoder, given: Sequence[str]) -> Tensor:
        nonlocal done
        done += 1
        if done == calls:
            write(tmp_path / "a.txt", texts)
        return call(self, given)

    monkeypatch.setattr(IndexEncoder, "__call__", late)
    with pytest.raises(UserError, match=rf"{key}: a\.txt: changed while it was read"):
        command(*settings, *arguments)
    assert {name: (tmp_path / "ix" / name).read_bytes() for name in files(tmp_path / "ix")} == before
    assert not (tmp_path / "new").exists()
