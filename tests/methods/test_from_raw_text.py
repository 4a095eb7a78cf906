"""Runs of the command line: extra negatives, then a run with a frozen encoder that the first one has exported."""

from pathlib import Path

from safetensors.torch import load_file

from tests.conftest import Cli

SMALL = (
    *("model=tiny", "data.batch_size=32", "trainer=cpu", "trainer.max_steps=3", "senteval.from_hub=false", "tasks=[]"),
    *("tasks@dev=samples-dev", "evaluation.before=false", "evaluation.test=false", "analyses=[]"),
)


def test_guides_and_teachers_are_exports_of_other_runs(warm_cli: Cli, tmp_path: Path) -> None:
    first = warm_cli(*SMALL, "loss=mixcse", "data=samples", "hydra.run.dir=first")
    assert first.returncode == 0, first.stderr
    for loss, beside in (("gist", "guide"), ("distill", "teacher")):
        checkpoint = f"loss.beside.{beside}.checkpoint=first/export"
        done = warm_cli(*SMALL, f"loss={loss}", "data=samples", checkpoint, f"hydra.run.dir={loss}")
        assert done.returncode == 0, done.stderr
        exported = load_file(tmp_path / loss / "export" / "model.safetensors")
        assert not any("beside" in name or "map" in name for name in exported)


def test_labels_are_read_from_their_column(warm_cli: Cli, tmp_path: Path) -> None:
    rows = "".join(f"The river number {row} flows to the sea .,{row % 3}\n" for row in range(64))
    (tmp_path / "topics.csv").write_text(f"text,label\n{rows}")
    done = warm_cli(*SMALL, "loss=supcon", "data.train_file=topics.csv", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
