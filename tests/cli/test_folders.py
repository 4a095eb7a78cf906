"""Whose folder is this: no verb takes, replaces or continues what another run, or another verb, has left in a folder."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from simcse_lit.config import folders, signature
from simcse_lit.config.replay import earlier_words
from simcse_lit.errors import UserError
from simcse_lit.scores import read_scores
from tests.cli.test_resume import interrupted, outcome, run
from tests.conftest import Cli, inherited
from tests.run_folders import make_run

QUICK = (
    "experiment=quickstart", "model=tiny", "evaluation.before=false", "evaluation.test=false", "tasks=[]",
    "trainer.max_steps=2", "demo.queries=[]", "analyses=[]",
)  # fmt: skip
LONGER = (*QUICK[:-3], "trainer.max_steps=20", "trainer.val_check_interval=5", "demo.queries=[]", "analyses=[]")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but Hydra's record of the last command and its log."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".log")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.parent.name != ".hydra"}


def train(command: Cli, *words: str) -> Any:
    return command(*QUICK, *words)


def succeeded(done: Any) -> Any:
    assert done.returncode == 0, done.stderr
    return done


def refused(done: Any, *parts: str) -> None:
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in done.stderr, done.stderr


@pytest.fixture
def finished(warm_cli: Cli, tmp_path: Path) -> Path:
    """The folder of a training that has ended."""
    succeeded(train(warm_cli, "hydra.run.dir=r", "seed=1"))
    return tmp_path / "r"


def test_a_finished_run_is_not_replaced_and_the_way_out_is_named(warm_cli: Cli, finished: Path) -> None:
    before = contents(finished)
    for words in (("seed=2",), ("seed=1",), ("seed=2", "resume=auto")):
        refused(train(warm_cli, "hydra.run.dir=r", *words), "seed was 1" if "resume=auto" in words else "finished training")
        assert contents(finished) == before
    again = succeeded(train(warm_cli, "hydra.run.dir=r", "seed=1", "resume=auto"))
    assert "is finished" in again.stdout and contents(finished) == before
    shutil.rmtree(finished / "checkpoints")  # to save space: it is finished all the same
    kept = contents(finished)
    assert "is finished" in succeeded(train(warm_cli, "hydra.run.dir=r", "seed=1", "resume=auto")).stdout
    refused(train(warm_cli, "hydra.run.dir=r", "seed=2", "resume=auto"), "seed was 1")
    assert contents(finished) == kept


def test_no_other_verb_writes_into_the_folder_of_a_run(warm_cli: Cli, finished: Path, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("a\nb\n")
    before = contents(finished)
    scored = ("checkpoint=r/export", "tasks=samples", "hydra.run.dir=r")
    refused(warm_cli(*scored, command="evaluate"), "hydra.run.dir=r: already holds a finished training", "hydra.run.dir=DIR")
    indexed = ("checkpoint=r/export", "input=x.txt", "folder=r")
    refused(warm_cli(*indexed, command="index"), "folder: r: holds other files, e.g. .hydra", "folder=DIR")
    refused(warm_cli("r", "out=r", command="report"), "out=r: already holds a finished training")
    refused(warm_cli("checkpoint=r/export", "output=r", command="export"), "output: r: already exists", "output=FOLDER")
    refused(warm_cli("r/export", "out=r/export", command="report"), "no run of simcse_lit.train")
    assert contents(finished) == before


def test_an_evaluation_is_not_replaced(warm_cli: Cli, finished: Path, tmp_path: Path) -> None:
    scored = ("checkpoint=r/export", "tasks=samples", "hydra.run.dir=e")
    succeeded(warm_cli(*scored, command="evaluate"))
    before = contents(tmp_path / "e")
    other = (*scored, "bootstrap.samples=9")
    refused(warm_cli(*other, command="evaluate"), "hydra.run.dir=e: already holds the results of an evaluation")
    refused(train(warm_cli, "hydra.run.dir=e"), "hydra.run.dir=e: already holds the results of an evaluation")
    refused(train(warm_cli, "hydra.run.dir=e", "resume=auto"), "/e: already holds the results of an evaluation")
    assert contents(tmp_path / "e") == before
    succeeded(warm_cli(*scored, command="evaluate"))  # the same one may be made again


def test_an_index_is_not_replaced_but_built_anew_from_itself(warm_cli: Cli, finished: Path, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("one sentence\nanother one\n")
    (tmp_path / "y.txt").write_text("a third\n")
    model = "checkpoint=r/export"
    succeeded(warm_cli(model, "folder=i", "input=x.txt", command="index"))
    before = contents(tmp_path / "i")
    refused(
        warm_cli(model, "folder=i", "input=y.txt", command="index"),
        "folder=i: already holds an index",
        "add=FILE",
        "folder=DIR",
    )
    refused(train(warm_cli, "hydra.run.dir=i"), "hydra.run.dir=i: already holds an index")
    assert contents(tmp_path / "i") == before
    succeeded(warm_cli("folder=i", "input=i", command="index"))
    succeeded(warm_cli("folder=i", "add=y.txt", command="index"))


def test_a_run_that_kept_nothing_leaves_its_folder_free_and_nothing_of_it_is_taken(warm_cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    failed = run(warm_cli, folder, f"hydra.run.dir={folder}", "+callbacks.poison._target_=of_this_test.Poison",
                 "trainer.val_check_interval=50")  # fmt: skip
    assert failed.returncode == 1 and not (folder / folders.LAST).exists()
    assert (folder / "nonfinite_batch.json").exists()
    (folder / "scores.json").write_text('{"before": {"dev": {"Pairs-dev": 1.0}, "test": {}}}')
    (folder / "mine.txt").write_text("of the user")
    succeeded(train(warm_cli, f"hydra.run.dir={folder}"))
    assert not (folder / "nonfinite_batch.json").exists() and not (folder / "error.txt").exists()
    assert "before" not in read_scores(folder) and (folder / "mine.txt").read_text() == "of the user"


def test_a_checkpoint_that_was_finished_is_never_removed(warm_cli: Cli, stopped: Path, tmp_path: Path) -> None:
    """A kill between the best checkpoint and the last one, or a run that keeps no last one, leaves the best alone."""
    (stopped / folders.LAST).unlink()
    before = contents(stopped)
    (best,) = (stopped / "checkpoints").glob("best-*.ckpt")
    refused(train(warm_cli, f"hydra.run.dir={stopped}"), "a training that was stopped", best.name)
    assert contents(stopped) == before
    again = run(warm_cli, stopped, f"hydra.run.dir={stopped}", "resume=auto")
    assert "from step 7" in succeeded(again).stdout


def test_runs_that_start_in_one_second_get_a_folder_each(tmp_path: Path) -> None:
    """As the jobs of a SLURM array; each claims its folder by making it."""
    with ThreadPoolExecutor(8) as pool:
        claimed = list(pool.map(folders.claim, [tmp_path / "outputs" / "T"] * 40))
    assert len(set(claimed)) == 40 and all(path.is_dir() for path in claimed)
    assert {path.name for path in claimed} == {"T", *(f"T-{number}" for number in range(2, 41))}


def test_the_second_of_two_runs_with_one_time_is_beside_the_first(warm_cli: Cli, tmp_path: Path) -> None:
    conf = tmp_path / "conf" / "experiment"
    conf.mkdir(parents=True)
    (conf / "fixed.yaml").write_text("# @package _global_\nhydra:\n  run:\n    dir: outputs/fixed\n")
    words = ("--config-dir", "conf", *QUICK[1:], "experiment=[quickstart,fixed]")
    for name in ("fixed", "fixed-2"):
        succeeded(warm_cli(*words))
        assert read_scores(tmp_path / "outputs" / name)["after"]


def test_two_runs_at_once_do_not_share_a_folder(tmp_path: Path, cache_dir: Path, warm_cli: Cli) -> None:
    words = [*LONGER, "hydra.run.dir=r", "trainer.max_steps=5000"]
    environment = {**inherited(), "SIMCSE_CACHE": str(cache_dir)}
    first = subprocess.Popen([sys.executable, "-m", "simcse_lit.train", *words], cwd=tmp_path, env=environment,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        while not list(tmp_path.glob("r/.running.lock")):
            time.sleep(0.05)
            assert first.poll() is None
        for more in ((), ("resume=auto",)):
            refused(train(warm_cli, "hydra.run.dir=r", *more), "is being written by process")
    finally:
        first.kill()
        first.wait()


@pytest.fixture
def stopped(warm_cli: Cli, tmp_path: Path) -> Path:
    """The folder of a run that SIGTERM stopped at step 10, named as people name folders."""
    folder = tmp_path / "語 (v=1), #2's" / "run (1)"
    assert interrupted(warm_cli, folder, 10, signal.SIGTERM).returncode == 128 + signal.SIGTERM
    return folder


def test_a_stopped_run_is_not_replaced_and_the_message_says_how_to_continue(warm_cli: Cli, stopped: Path) -> None:
    refused(train(warm_cli, f"hydra.run.dir={stopped}"), "a training that was stopped", "simcse-lit train 'resume=")


def test_a_run_continues_from_a_moved_and_a_copied_folder_bit_for_bit(warm_cli: Cli, stopped: Path, tmp_path: Path) -> None:
    copied, moved = tmp_path / "copy, of it", tmp_path / "moved = it"
    shutil.copytree(stopped, copied)
    succeeded(run(warm_cli, copied, f"resume={copied}/checkpoints/last.ckpt", "~callbacks.signal", settings=()))
    whole = outcome(copied)
    assert not (stopped / "export").exists(), "nothing is written to the folder that was copied"
    best = [path.name for path in (copied / "checkpoints").glob("best-*")]
    shutil.move(stopped, moved)
    succeeded(run(warm_cli, moved, f"resume='{moved}'", "~callbacks.signal", settings=()))  # quoted as Hydra teaches
    assert outcome(moved) == whole
    assert [path.name for path in (moved / "checkpoints").glob("best-*")] == best


def test_a_score_keeps_its_name_when_a_run_goes_on(warm_cli: Cli, stopped: Path, simcse_data: Path) -> None:
    refused(
        run(warm_cli, stopped, f"resume={stopped}", "~callbacks.signal", "tasks@dev=STS12", settings=()),
        "dev", "but is",
    )  # fmt: skip
    again = warm_cli(f"resume={stopped}/export", "~callbacks.signal", "tasks=samples", "evaluation.test=true",
                     env={"SIMCSE_DATA": str(simcse_data)})  # fmt: skip
    succeeded(again)
    (name,) = read_scores(stopped)["after"]["dev"]
    assert name == "Pairs-dev", "SentEval's files have appeared since; the best was chosen on bundled pairs"


def test_another_number_of_processes_is_refused_only_where_it_changes_the_batches(tmp_path: Path) -> None:
    from simcse_lit.data.datamodule import SimCSEDataModule

    module = SimCSEDataModule.__new__(SimCSEDataModule)
    now = {"files": {"a": "1"}, "examples": 15, "rest": 4}
    module.state_dict = lambda: now  # type: ignore[method-assign]
    module.load_state_dict({"files": {"a": "1"}, "examples": 15, "rest": 4})
    module.load_state_dict({"files": {"a": "1"}, "examples": 15})  # of version 0.1
    with pytest.raises(UserError, match=r"had 5 examples .* have 4"):
        module.load_state_dict({"files": {"a": "1"}, "examples": 15, "rest": 5})
    with pytest.raises(UserError, match="another corpus"):
        module.load_state_dict({"files": {"a": "2"}, "examples": 15, "rest": 5})


def test_a_run_with_configuration_files_of_ones_own_continues(warm_cli: Cli, tmp_path: Path) -> None:
    own = tmp_path / "my conf (1)" / "experiment"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("# @package _global_\ndefaults:\n  - quickstart\noptimizer:\n  lr: 1.0e-4\n")
    folder = tmp_path / "run"
    words = ("--config-dir", str(own.parent), "experiment=mine", *LONGER[1:])
    assert interrupted(warm_cli, folder, 10, signal.SIGTERM, settings=words).returncode == 128 + signal.SIGTERM
    shown = succeeded(run(warm_cli, folder, f"resume={folder}", "--cfg", "job", settings=()))
    assert yaml.safe_load(shown.stdout)["optimizer"]["lr"] == 1e-4
    done = succeeded(run(warm_cli, folder, f"resume={folder}", "~callbacks.signal", settings=()))
    assert "from step 10" in done.stdout
    assert yaml.safe_load((folder / "config.yaml").read_text())["optimizer"]["lr"] == 1e-4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_and_names_the_way_on(warm_cli: Cli, tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "run"
    stopped = interrupted(warm_cli, folder, 3, number, settings=LONGER)
    assert stopped.returncode == 128 + number
    name = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}[number]
    assert f"Stopped by {name} after step 3. Resume with: resume={folder}" in stopped.stdout
    assert "from step 3" in succeeded(run(warm_cli, folder, f"resume={folder}", "~callbacks.signal", settings=())).stdout


def foreign(folder: Path, *overrides: str, key: str = "overrides.yaml") -> Path:
    """A stopped run that came from elsewhere: no signature of ours."""
    make_run(folder, ["experiment=quickstart", "model=tiny", *overrides], {})
    (folder / "checkpoints").mkdir()
    (folder / folders.LAST).touch()
    path = folder / ".hydra" / "hydra.yaml"
    record = yaml.safe_load(path.read_text())
    record["hydra"]["overrides"] = {"hydra": [], "task": list(overrides)}
    path.write_text(yaml.safe_dump(record))
    return folder


@pytest.mark.parametrize(
    "planted",
    [
        "+callbacks.x._target_=numpy.load",
        "+callbacks.x={_target_: numpy.load, file: x}",
        '+callbacks.x=${oc.decode:\'{"_tar\\x67et_": "numpy.load"}\'}',
        "optimizer._target_=numpy.load",
        "++tasks.x._target_=os.system",
        "hydra.callbacks.x._target_=numpy.load",
        "+hydra.callbacks.x._target_=numpy.load",
        "hydra/launcher=basic",
        "model.trust_remote_code=true",
    ],
)
def test_nothing_that_a_stranger_wrote_is_built(warm_cli: Cli, tmp_path: Path, planted: str) -> None:
    folder = foreign(tmp_path / "theirs", planted)
    before = contents(folder)
    refused(warm_cli(f"resume={folder}"), "Error: ")
    assert contents(folder) == before


def test_what_its_owner_types_again_is_replayed(warm_cli: Cli, tmp_path: Path) -> None:
    folder = foreign(tmp_path / "theirs", "optimizer._target_=torch.optim.SGD")
    refused(warm_cli(f"resume={folder}"), "was not written by a run of yours", "optimizer._target_=torch.optim.SGD")
    trusted = warm_cli(f"resume={folder}", "optimizer._target_=torch.optim.SGD")
    assert "was not written by a run of yours" not in trusted.stderr


def test_configuration_files_that_a_stranger_named_are_not_read(warm_cli: Cli, tmp_path: Path) -> None:
    folder = foreign(tmp_path / "theirs")
    path = folder / ".hydra" / "hydra.yaml"
    hydra = yaml.safe_load(path.read_text())
    hydra["hydra"]["runtime"]["config_sources"].append({"path": "/etc", "provider": "command-line"})
    path.write_text(yaml.safe_dump(hydra))
    refused(warm_cli(f"resume={folder}"), "--config-dir=/etc")


def test_a_signature_holds_for_what_was_signed_and_for_this_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = foreign(tmp_path / "ours")
    assert not signature.is_ours(folder)
    signature.sign(folder)
    shutil.copytree(folder, tmp_path / "moved")
    assert signature.is_ours(folder) and signature.is_ours(tmp_path / "moved")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another user"))
    assert not signature.is_ours(folder)
    monkeypatch.undo()
    (folder / ".hydra" / "overrides.yaml").write_text("- seed=7\n")
    assert not signature.is_ours(folder)
    assert Path(os.environ["XDG_STATE_HOME"], "simcse_lit", "key").stat().st_mode & 0o077 == 0


def test_a_sweep_by_another_launcher_spares_what_its_folder_holds(warm_cli: Cli, finished: Path, tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    shutil.copytree(finished, tmp_path / "sweep" / "0")
    before = contents(tmp_path / "sweep" / "0")
    words = ("-m", *QUICK, "hydra/launcher=basic", "hydra.sweep.dir=sweep", "seed=3")
    refused(warm_cli(*words), "hydra.sweep.dir=", "finished training")
    assert contents(tmp_path / "sweep" / "0") == before


@pytest.mark.parametrize(
    ("name", "content"),
    [("overrides.yaml", content) for content in ("", "a", "3", "{a: b}")]
    + [("hydra.yaml", content) for content in ("", "[]", "hydra:", "{hydra: {job: 1, runtime: 2, overrides: 3}}")],
)
def test_a_damaged_record_of_a_run_is_named(tmp_path: Path, name: str, content: str) -> None:
    folder = foreign(tmp_path / "theirs")
    (folder / ".hydra" / name).write_text(content)
    with pytest.raises(UserError, match=f"{name}: cannot be read: "):
        earlier_words([f"resume={folder}"])


def test_variables_that_are_empty_or_relative_put_nothing_into_the_folder_of_the_user(warm_cli: Cli, tmp_path: Path) -> None:
    env = {"SIMCSE_CACHE": "", "XDG_STATE_HOME": "here", "HOME": str(tmp_path / "home")}
    succeeded(warm_cli(*QUICK, "hydra.run.dir=r", env=env))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "r"]


def test_one_of_the_runs_of_a_sweep_is_named_for_the_sweep(tmp_path: Path) -> None:
    foreign(tmp_path / "sweep" / "0")
    with pytest.raises(UserError, match=f"Name one of the runs in it: resume={tmp_path / 'sweep' / '0'}"):
        earlier_words([f"resume={tmp_path / 'sweep'}"])


def test_scores_of_a_damaged_file_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text("{")
    with pytest.raises(UserError, match=r"scores\.json is damaged"):
        folders.check_free(tmp_path, "hydra.run.dir", "train")


@pytest.mark.parametrize(("verb", "theirs"), [(verb, name) for verb, names in folders.WRITES.items() for name in names])
def test_files_of_the_users_own_are_not_written_over(tmp_path: Path, verb: str, theirs: str) -> None:
    """Nor a folder `export/`, which the end of a training would replace."""
    (tmp_path / theirs).mkdir() if "." not in theirs else (tmp_path / theirs).write_text("three years")
    (tmp_path / "notes.txt").write_text("no verb writes this")
    with pytest.raises(UserError, match=f"out=.*: already holds {theirs}"):
        folders.check_free(tmp_path, "out", verb)
    if (tmp_path / theirs).is_file():
        (tmp_path / theirs).unlink()
        folders.check_free(tmp_path, "out", verb)


def test_the_message_is_one_screen_and_can_be_copied(tmp_path: Path) -> None:
    folder = tmp_path / "it's (1)"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / folders.LAST).touch()
    with pytest.raises(UserError) as error:
        folders.check_free(folder, "hydra.run.dir", "train")
    command = str(error.value).split("Resume it: ")[1].partition(". Use")[0]
    shown = subprocess.run(["bash", "-c", f"printf '%s\\n' {command}"], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines() == ["simcse-lit", "train", f"resume={folder}"]
    assert json.dumps(str(error.value)).count("\\n") <= 3
