"""A folder is written whole or not at all: kills at every step, two writers, and folders of the user's with like names."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from simcse_lit.errors import UserError
from simcse_lit.formats import whole_folder as module
from simcse_lit.formats.export import load_export
from simcse_lit.formats.loading import load_encoder
from simcse_lit.formats.whole_folder import recover, whole_folder
from tests.formats.test_export import exported


def write(folder: Path, text: str, *, replace: bool = True) -> None:
    with whole_folder(folder, replace=replace) as new:
        (new / "a.txt").write_text(text)
        (new / "inside").mkdir()
        (new / "inside" / "b.txt").write_text(text)


def content(folder: Path) -> str:
    one, other = (folder / "a.txt").read_text(), (folder / "inside" / "b.txt").read_text()
    assert one == other and len(list(folder.rglob("*"))) == 3
    return one


def killed(do: Callable[[], None], owner: object, name: str, call: int, *, after: bool) -> None:
    """Run in another process, which ends without a word before, or after, the call of that number, from 1."""
    pid = os.fork()
    if pid:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
        return
    function, calls = getattr(owner, name), 0

    def patched(*arguments: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        if calls == call and not after:
            os._exit(9)
        done = function(*arguments, **options)
        if calls == call:
            os._exit(9)
        return done

    setattr(owner, name, patched)
    do()
    os._exit(1)


RENAMES = [(Path, "rename", call, after) for call in (1, 2) for after in (False, True)]
REMOVALS = [(shutil, "rmtree", call, False) for call in (1, 2, 3, 4)]  # two before the work, two after


@pytest.mark.parametrize(("owner", "name", "call", "after"), [*RENAMES, *REMOVALS, (module, "fsync", 2, False)])
def test_a_kill_at_any_step_leaves_the_old_folder_or_the_new_one_whole(
    tmp_path: Path, owner: object, name: str, call: int, after: bool
) -> None:
    folder = tmp_path / "export"
    write(folder, "old")
    killed(lambda: write(folder, "new"), owner, name, call, after=after)
    recover(folder)
    assert content(folder) in ("old", "new")
    write(folder, "newest")
    assert content(folder) == "newest"
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


def test_a_kill_between_the_renames_is_found_by_whoever_loads_the_encoder(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    for load in (
        lambda: load_export(folder)[0].pooler.name,
        lambda: load_encoder(str(folder), revision=None, pooler=None, projection=None).pooler,
    ):
        exported(folder, "cls", "mlp")
        killed(lambda: exported(folder, "avg", "none") and None, Path, "rename", 1, after=True)
        assert not folder.exists()
        assert load() == "avg"


def test_a_kill_while_a_first_folder_is_written_leaves_nothing_that_counts(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    killed(lambda: write(folder, "new"), Path, "rename", 1, after=False)
    recover(folder)
    assert not folder.exists()
    write(folder, "again", replace=False)
    assert content(folder) == "again" and [path.name for path in tmp_path.iterdir()] == ["export"]


def test_an_error_leaves_the_old_folder_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "export"
    write(folder, "old")
    with pytest.raises(ValueError, match="mine"), whole_folder(folder, replace=True):
        raise ValueError("mine")
    rename = Path.rename

    def refuses(path: Path, target: Path) -> Path:
        if path.name == "new":
            raise OSError("disk")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuses)
    with pytest.raises(UserError, match=r"out.*: cannot be written: disk\. Nothing was changed"):
        write(folder, "new")
    assert content(folder) == "old" and [path.name for path in tmp_path.iterdir()] == ["export"]


def test_a_second_writer_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    with whole_folder(folder, replace=True) as new:
        (new / "a.txt").write_text("first")
        with pytest.raises(UserError, match=rf"output: {folder}: is being written by process {os.getpid()} on "):
            write(folder, "second")
        (new / "inside").mkdir()
        (new / "inside" / "b.txt").write_text("first")
    assert content(folder) == "first"


@pytest.mark.parametrize(
    "theirs", ["mine.partial", ".mine.partial", "mine.new", "mine.old", "mine.tmp", ".mine", "mine.simcse_lit"]
)
def test_a_folder_of_the_users_with_a_like_name_stays(tmp_path: Path, theirs: str) -> None:
    (tmp_path / theirs).mkdir()
    (tmp_path / theirs / "thesis.txt").write_text("three years")
    write(tmp_path / "mine", "ours", replace=False)
    write(tmp_path / "mine", "again")
    assert (tmp_path / theirs / "thesis.txt").read_text() == "three years"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["mine", theirs])


def test_a_folder_that_must_be_new_is_not_replaced_even_if_it_appears_meanwhile(tmp_path: Path) -> None:
    write(tmp_path / "out", "theirs")
    with pytest.raises(UserError, match=r"out: already exists\. Remove it, or name another folder: output=FOLDER"):
        write(tmp_path / "out", "ours", replace=False)
    with (
        pytest.raises(UserError, match="already exists"),
        whole_folder(tmp_path / "late", replace=False),
    ):
        write(tmp_path / "elsewhere", "theirs")
        (tmp_path / "elsewhere").rename(tmp_path / "late")
    assert content(tmp_path / "out") == content(tmp_path / "late") == "theirs"


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    write(tmp_path / "scratch" / "real", "old")
    (tmp_path / "export").symlink_to(tmp_path / "scratch" / "real")
    write(tmp_path / "export", "new")
    assert (tmp_path / "export").is_symlink() and content(tmp_path / "scratch" / "real") == "new"
