"""The benchmarks: what docs/performance.md quotes is what a script printed, and the script for GPUs runs without one."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.md"))


@pytest.mark.parametrize("result", RESULTS, ids=lambda path: path.stem)
def test_the_document_quotes_every_result_as_it_was_printed(result: Path) -> None:
    document = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert result.read_text(encoding="utf-8").strip() in document
    (script,) = re.findall(r"\(`python (benchmarks/\w+\.py)[^`]*`", result.read_text(encoding="utf-8"))
    assert (ROOT / script).is_file()


def test_there_are_results() -> None:
    assert {"training_step", "train_overhead", "encoding", "evaluation", "gpu", "startup"} <= {path.stem for path in RESULTS}


def test_the_script_for_gpus_runs_every_way_on_a_cpu() -> None:
    script = ROOT / "benchmarks" / "gpu.py"
    done = subprocess.run([sys.executable, str(script), "--smoke", "--blocks", "1"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    errors = [float(line.split(": ")[1].split()[0]) for line in lines if line.endswith("from padded rows")]
    assert len(errors) == 3  # padded, in chunks, packed
    assert max(errors) < 1e-5
    assert len(lines) == 3 + 2 * 4, "two kinds of step, each also with sentence-transformers"
