"""Checkpoints that were deleted, cut or changed are refused before they are used, with the way on."""

import random
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from simcse_lit.config.hydra_words import explain
from simcse_lit.config.replay import earlier_words
from simcse_lit.disk import damage
from simcse_lit.errors import UserError
from simcse_lit.training.checkpoints import RunCheckpointIO, read_state, steps_of
from tests.conftest import OLD


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The checkpoints of a run that was stopped."""
    return Path(shutil.copytree(OLD / "stopped", tmp_path / "stopped")) / "checkpoints"


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


@contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow beyond 9 kB, which is refused as a full disk is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_said_in_one_line_and_leaves_the_old_checkpoint_alone(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    RunCheckpointIO().save_checkpoint({"numbers": torch.arange(9)}, path)
    before = path.read_bytes()
    with full_disk(), pytest.raises(Exception) as error:  # torch's own, behind the disk's
        RunCheckpointIO().save_checkpoint({"numbers": torch.arange(40_000)}, path)
    assert "cannot be written or read: File too large" in (explain(error.value, "train") or "")
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("last.ckpt", before)]


def test_a_bit_that_is_flipped_anywhere_is_found_or_changes_nothing(folder: Path) -> None:
    path = folder / "last.ckpt"
    whole, expected = path.read_bytes(), read_state(path)
    draw = random.Random(0)
    found = 0
    for place in draw.sample(range(len(whole)), 150):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        try:
            assert equal(read_state(path), expected), place
        except UserError:
            found += 1
    assert found > 130  # the rest are padding, dates and attributes of the archive


def parts(path: Path) -> dict[str, int]:
    """A place within the pickle, within a tensor, and within the archive's directory."""
    whole = path.read_bytes()
    pickled, tensor = whole.index(b"archive/data.pkl"), whole.index(b"archive/data/0")
    return {"pickle": pickled + 400, "tensor": tensor + 600, "directory": whole.rindex(b"archive/data/0")}


@pytest.mark.parametrize("region", ["pickle", "tensor", "directory"])
def test_a_flip_in_each_region_of_what_torch_writes_today_is_found(tmp_path: Path, region: str) -> None:
    path = tmp_path / "last.ckpt"
    numbers = torch.arange(4096.0)
    RunCheckpointIO().save_checkpoint(
        {"global_step": 3, "names": [f"a name {n}" for n in range(99)], "weights": numbers}, path
    )
    assert damage(path) is None
    whole = bytearray(path.read_bytes())
    whole[parts(path)[region]] ^= 4
    path.write_bytes(whole)
    with pytest.raises(UserError, match=r"last\.ckpt: was (cut or )?changed after it was written"):
        read_state(path)


@pytest.mark.parametrize("how", ["cut", "empty", "text"])
def test_a_last_checkpoint_that_is_no_archive_any_more_names_the_best(folder: Path, how: str) -> None:
    last, best = folder / "last.ckpt", folder / "best-step000002.ckpt"
    assert steps_of(last) == 5
    last.write_bytes({"cut": last.read_bytes()[:-3000], "empty": b"", "text": b"hello" * 99}[how])
    with pytest.raises(UserError, match=rf"last\.ckpt: was cut or changed(.|\n)*resume={best}$"):
        steps_of(last)
    assert steps_of(best) == 2
    best.unlink()
    with pytest.raises(UserError, match=r"The run has no other intact checkpoint; start a new run in another folder"):
        steps_of(last)


@pytest.mark.parametrize("how", ["deleted", "cut"])
def test_a_run_whose_best_weights_are_lost_is_not_continued(folder: Path, how: str) -> None:
    last, best = folder / "last.ckpt", folder / "best-step000002.ckpt"
    whole = best.read_bytes()
    best.unlink()
    if how == "cut":
        best.write_bytes(whole[:-100])
    with pytest.raises(UserError, match=rf"best-step000002\.ckpt: (is missing|was cut)(.|\n)*export checkpoint={last} "):
        steps_of(last)


def test_a_last_checkpoint_that_was_deleted_is_answered_with_the_best(folder: Path) -> None:
    with pytest.raises(UserError, match=rf"no-such\.ckpt\. Use its last checkpoint: resume={folder.parent}$"):
        earlier_words([f"resume={folder}/no-such.ckpt"])
    (folder / "last.ckpt").unlink()
    best = folder / "best-step000002.ckpt"
    with pytest.raises(UserError, match=rf"holds no checkpoints/last\.ckpt\.\nResume .*: resume={best}$"):
        earlier_words([f"resume={folder.parent}"])
    assert f"hydra.run.dir='{folder.parent}'" in earlier_words([f"resume={best}"])


def test_what_is_not_only_tensors_and_containers_is_refused_and_not_unpickled(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path(tmp_path / "ran").write_text, ("ran",))

    torch.save({"global_step": 1, "callbacks": Evil()}, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match=r"last\.ckpt: cannot be read safely"):
        steps_of(tmp_path / "last.ckpt")
    assert not (tmp_path / "ran").exists()
