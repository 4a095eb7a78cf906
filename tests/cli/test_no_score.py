"""A run without a score ends with what is constant or missing: no file holds a NaN, and `resume=` calls none finished."""

import csv
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertModel

from simcse_lit.config.resolvers import local_path
from simcse_lit.errors import UserError
from simcse_lit.evaluate import main as evaluate
from simcse_lit.scores import read_scores
from tests.conftest import OLD, Cli, evaluate_config
from tests.run_folders import make_run

TINY = local_path("pkg://simcse_lit/data/samples/tiny", "test")
SHORT = ("data=samples", "trainer=cpu", "senteval.from_hub=false", "data.batch_size=16", "trainer.max_steps=3")
NOT_A_NUMBER = re.compile(r"\b(NaN|nan|-?inf|-?Infinity)\b")


@pytest.fixture(scope="module")
def collapsed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT whose last layer ends with weights of zero: every token of every sentence has the same vector, a bias."""
    folder = tmp_path_factory.mktemp("collapsed") / "bert"
    torch.manual_seed(0)
    model = BertModel(BertConfig.from_pretrained(TINY))
    last: Any = model.encoder.layer[-1]
    last = last.output.LayerNorm
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.normal_(last.bias)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(TINY).save_pretrained(folder)
    return folder


def numbers_are_numbers(run: Path) -> None:
    for path in run.rglob("*"):
        if path.suffix in (".json", ".md") and path.name != "environment.json":
            assert not NOT_A_NUMBER.search(path.read_text(encoding="utf-8")), path
    if (run / "metrics.csv").is_file():
        with (run / "metrics.csv").open() as file:
            for row in csv.DictReader(file):
                assert all(math.isfinite(float(value)) for value in row.values() if value), row


@pytest.mark.parametrize("stage", ["before", "training"])
def test_training_a_collapsed_encoder_stops_and_is_never_finished(
    warm_cli: Cli, tmp_path: Path, collapsed: Path, stage: str
) -> None:
    later = ("evaluation.before=false", "trainer.val_check_interval=2", "optimizer.lr=1e-30")  # it stays as it is
    scored = later if stage == "training" else ()
    model = ("model=default", f"model.name_or_path={collapsed}", "pooler=cls", "projection=none")
    for again in ((), ("resume=auto",)):
        done = warm_cli(*SHORT, *model, *scored, "hydra.run.dir=run", *again)
        assert done.returncode == 1, done.stdout
        for part in ("tasks.Pairs-dev: no score", "every sentence the same vector", "pooler=last_token"):
            assert part in done.stderr
        assert ("Validation after step 2" in done.stderr) == (stage == "training")
        assert ("No checkpoint had been written yet" in done.stderr) == (stage == "training")
        assert "Traceback" not in done.stderr and "is finished" not in done.stdout
        assert not (tmp_path / "run" / "scores.json").exists() and not (tmp_path / "run" / "export").exists()
        assert not list((tmp_path / "run").glob("checkpoints/*"))
        numbers_are_numbers(tmp_path / "run")
    assert "no score" in (tmp_path / "run" / "error.txt").read_text()


def test_a_collapse_in_training_names_the_last_good_checkpoint(warm_cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "of_this_test.py").write_text(
        "import torch\nfrom pytorch_lightning.callbacks import Callback\n\n\n"
        "class Flatten(Callback):\n"
        "    def on_validation_start(self, trainer, module):\n"
        "        if trainer.global_step == 6:\n"
        "            with torch.no_grad():\n"
        "                for name, weight in module.encoder.backbone.named_parameters():\n"
        "                    weight.zero_() if 'LayerNorm.weight' in name else None\n"
    )
    callback = "+callbacks.flatten._target_=of_this_test.Flatten"
    settings = ("model=tiny", "trainer.max_steps=6", "trainer.val_check_interval=2", "projection=none")
    done = warm_cli(*SHORT[:-1], *settings, callback, "hydra.run.dir=run", env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1, done.stdout
    assert "Validation after step 6: tasks.Pairs-dev: no score" in done.stderr
    assert f"Last good checkpoint: {Path('run', 'checkpoints', 'last.ckpt')}" in done.stderr.replace(f"{tmp_path}/", "")
    assert torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 4
    assert list(read_scores(tmp_path / "run")) == ["before"]
    numbers_are_numbers(tmp_path / "run")


def test_evaluating_a_collapsed_encoder_names_the_task_and_keeps_other_encoders_scores(
    collapsed: Path, tmp_path: Path
) -> None:
    options = ("tasks=samples", "senteval.from_hub=false", f"run_dir={tmp_path / 'run'}", "bootstrap.samples=20")
    with pytest.raises(UserError, match=r"tasks\.Pairs: no score: .*(.|\n)*every sentence the same vector"):
        evaluate(evaluate_config(*options, "pooler=cls", f"checkpoint={collapsed}"))
    assert not (tmp_path / "run" / "results.json").exists()
    for name in ("center", "whitening"):
        with pytest.raises(UserError, match=r"postprocess: the .* sentences .* all have the same vector"):
            evaluate(evaluate_config(*options, "pooler=cls", f"checkpoint={collapsed}", f"postprocess={name}"))
    evaluate(evaluate_config(*options, "pooler=avg_first_last", f"checkpoint={collapsed}"))
    numbers_are_numbers(tmp_path / "run")


def test_a_set_of_constant_gold_scores_is_missing_and_the_others_are_scored(collapsed: Path, tmp_path: Path) -> None:
    (tmp_path / "flat.tsv").write_text("a\tb\tgold\n" + "".join(f"one {n}\ttwo {n}\t3\n" for n in range(5)))
    flat = "{_target_: simcse_lit.evaluation.sts.file, path: %s, columns: [a, b, gold]}" % (tmp_path / "flat.tsv")
    options = ("tasks=samples", "senteval.from_hub=false", f"run_dir={tmp_path / 'run'}", "bootstrap.samples=20")
    with pytest.raises(UserError, match=r"flat: tasks\.flat: .*flat\.tsv: every pair \(5\) has the gold score 3"):
        evaluate(evaluate_config(*options, "pooler=avg_first_last", f"checkpoint={collapsed}", f"+tasks.flat={flat}"))
    content: dict[str, Any] = json.loads((tmp_path / "run" / "results.json").read_text())
    assert list(content["encoders"][0]["tasks"]) == ["Pairs"] and list(content["missing"]) == ["flat"]
    numbers_are_numbers(tmp_path / "run")


@pytest.mark.parametrize("golds", ["constant", "missing"])
def test_training_on_a_development_set_without_scores_is_refused_before_the_corpus_is_read(
    warm_cli: Cli, tmp_path: Path, golds: str
) -> None:
    last = "4" if golds == "constant" else "nan"
    rows = [*["4"] * 8, last]
    (tmp_path / "dev.csv").write_text("a,b,gold\n" + "".join(f"one {n},two {n},{gold}\n" for n, gold in enumerate(rows)))
    own = "+dev.own={_target_: simcse_lit.evaluation.sts.file, path: dev.csv, columns: [a, b, gold]}"
    done = warm_cli(*SHORT, "model=tiny", "~dev.STS-B-dev", own, "hydra.run.dir=run")
    assert done.returncode == 1
    expected = (
        "dev.csv: every pair (9) has the gold score 4" if golds == "constant" else "dev.csv, line 10: 'nan' is not a gold"
    )
    assert expected in done.stderr and "examples" not in done.stdout
    assert not (tmp_path / "run" / "scores.json").exists()


@pytest.mark.parametrize("value", ["NaN", "-Infinity"])
def test_a_run_of_version_0_1_without_a_score_is_not_finished(warm_cli: Cli, tmp_path: Path, value: str) -> None:
    """It wrote the number that ModelCheckpoint makes of NaN, which is no JSON."""
    shutil.copytree(OLD, tmp_path, dirs_exist_ok=True)
    run = tmp_path / "stopped"
    (run / "scores.json").write_text(f'{{"before": {{"Pairs-dev": 1.0}}, "after": {{"Pairs-dev": {value}}}}}')
    refused = warm_cli("resume=stopped")
    assert refused.returncode == 1 and "is finished" not in refused.stdout
    assert f"Pairs-dev after training is {value.lower().replace('infinity', 'inf')}, which is no score" in refused.stderr
    assert "remove the file" in refused.stderr and "resume=" in refused.stderr
    (run / "scores.json").unlink()
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    (best,) = (name for name in state["callbacks"] if name.startswith("ModelCheckpoint"))
    state["callbacks"][best]["best_model_score"] = torch.tensor(-math.inf)
    state["callbacks"][best]["best_k_models"] = dict.fromkeys(
        state["callbacks"][best]["best_k_models"], torch.tensor(-math.inf)
    )
    torch.save(state, run / "checkpoints" / "last.ckpt")
    done = warm_cli("resume=stopped")
    assert done.returncode == 0, done.stderr
    scores = json.loads((run / "scores.json").read_text())
    assert math.isfinite(scores["after"]["dev"]["Pairs-dev"])
    numbers_are_numbers(run)


def test_a_report_lists_a_run_without_a_score_as_failed(warm_cli: Cli, tmp_path: Path) -> None:
    for name, score in (("0", 70.0), ("1", 60.0)):
        make_run(tmp_path / "sweep" / name, [f"seed={name}"], {"seed": int(name)}, after={"STS-B-dev": score})
    (tmp_path / "sweep" / "1" / "scores.json").write_text('{"after": {"dev": {"STS-B-dev": NaN}, "test": {}}}')
    done = warm_cli("sweep", command="report")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "sweep" / "report" / "report.md").read_text()
    assert "failed: 1" in text and "is nan, which is no score" in text.replace("\\", "")
