"""Real training on real text: the quickstart, and three layers of MiniLM against the design's figures."""

from pathlib import Path

import pytest

from tests.conftest import Cli, metrics


@pytest.mark.long
def test_quickstart_on_bundled_text_alone_lifts_the_real_sts_b(warm_cli: Cli, tmp_path: Path, simcse_data: Path) -> None:
    # The seven test sets take longer than training; the development set alone is what is claimed.
    done = warm_cli(
        "experiment=quickstart",
        "hydra.run.dir=run",
        "trainer.val_check_interval=1000",  # at the end alone
        "evaluation.test=false",
        "evaluation.before=false",
        "demo.queries=[]",
        env={"SIMCSE_DATA": str(simcse_data)},
    )
    assert done.returncode == 0, done.stderr
    assert max(metrics(tmp_path / "run")["val/sts"]) >= 75


def test_quickstart_without_any_data_ends_with_all_that_it_promises(cli: Cli, tmp_path: Path) -> None:
    done = cli("experiment=quickstart", "hydra.run.dir=run", "trainer.max_steps=20")
    assert done.returncode == 0, done.stderr
    out = done.stdout
    table, queries, after = out.rindex("Spearman x 100"), out.index("How do plants"), out.index("Next\n")
    assert table < queries < after
    before, trained = (float(out[table:].split(name)[1].split()[0]) for name in ("before", "after"))
    assert trained > before + 5
    assert "Curve " in out
    assert out[queries:after].count("  0.") == 9  # three queries, three neighbours each
    assert "training_curve.png" in out
    assert all(
        len(line) <= 80 for line in out[after:].splitlines() if not line.startswith("  source ")
    )  # a path is as it is


@pytest.mark.long
def test_one_supervised_epoch_of_three_layers_reaches_the_measured_figures(
    warm_cli: Cli, tmp_path: Path, simcse_data: Path
) -> None:
    # Two of the seven test sets, since encoding them all takes longer than training.
    text = f"data.train_file={simcse_data / 'nli' / 'snli_triplets.csv'}"
    model = ("model=minilm-l3", "pooler=avg", "projection=mlp_train_only", "trainer=cpu")
    settings = ("loss=sup", "data=file", text, *model, "data.batch_size=64", "optimizer.lr=1e-4", "trainer.max_epochs=1")
    scored = ("hydra.run.dir=run", "trainer.val_check_interval=46", "tasks=[STS13,STS-B]")
    done = warm_cli(*settings, *scored, env={"SIMCSE_DATA": str(simcse_data)})
    assert done.returncode == 0, done.stderr
    got = metrics(tmp_path / "run")
    assert got["before/STS13"][0] == pytest.approx(63.36, abs=0.02)
    assert got["before/STS-B"][0] == pytest.approx(55.88, abs=0.02)
    assert got["val/sts"][0] == pytest.approx(63.03, abs=0.02)
    assert "63.36" in done.stdout and "63.03" in done.stdout
    assert got["test/STS13"][0] >= 70.5 and got["test/STS-B"][0] >= 73.5
    assert max(got["val/sts"]) >= 79.5
