"""The run folder and its provenance: the resolved configuration and the environment. Scores and figures are elsewhere."""

import csv
import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from omegaconf import OmegaConf

import simcse_lit
from simcse_lit.config.as_typed import literal
from simcse_lit.errors import UserError

if TYPE_CHECKING:  # an evaluation needs no Lightning, which is slow to import
    from pytorch_lightning.loggers import CSVLogger

LIBRARIES = ("torch", "pytorch-lightning", "transformers", "tokenizers", "datasets", "hydra-core", "omegaconf", "scipy")


def make_run_folder(folder: Path) -> Path:
    """Create the run folder if it does not exist.

    Raises:
        UserError: the folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"run_dir: {folder} cannot be made: {error.strerror or error}.") from error
    return folder


def write_provenance(folder: Path, config: Any, device: torch.device) -> None:
    """Write `config.yaml` (resolved) and `environment.json` (versions, git commit, machine, command) into the run folder."""
    resolved = OmegaConf.to_yaml(OmegaConf.create(literal(asdict(config))), resolve=True)
    (folder / "config.yaml").write_text(resolved, encoding="utf-8")
    environment = {
        "simcse_lit": simcse_lit.__version__,
        "git_commit": git_commit(),
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": f"{device}: {device_name(device)}",
        "threads": torch.get_num_threads(),
        "libraries": {name: version(name) for name in LIBRARIES},
    }
    (folder / "environment.json").write_text(json.dumps(environment, indent=2) + "\n", encoding="utf-8")


def record_corpus(folder: Path, read: Mapping[str, Any] | None) -> None:
    """Add the counts of the training corpus to `environment.json`; `read` is None for a stream, which has none."""
    if read is not None:
        path = folder / "environment.json"
        environment = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**environment, "data": read}, indent=2) + "\n", encoding="utf-8")


def keep_earlier_metrics(logger: "CSVLogger", steps: int) -> None:
    """Copy the rows of the first `steps` steps into the `metrics.csv` of a resumed run.

    Lightning's logger starts with an empty file. Later rows are left out: the steps after the checkpoint are repeated.
    """
    path = Path(logger.log_dir, "metrics.csv")
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines())) if path.is_file() else []
    for row in rows:
        if int(row["step"]) < steps:
            values = {name: float(value) for name, value in row.items() if value and name not in ("step", "epoch")}
            epoch = {"epoch": int(row["epoch"])} if row.get("epoch") else {}
            logger.experiment.metrics.append({**values, **epoch, "step": int(row["step"])})
    logger.save()


def git_commit() -> str | None:
    """Return the git commit of the running checkout, with "-dirty" if files are changed; None outside of a checkout."""
    here = Path(simcse_lit.__file__).parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # An installed copy may be inside another repository, for example in its .venv.
    if git("ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    commit = git("rev-parse", "HEAD")
    # Results of benchmarks are not code: a benchmark that wrote its result does not make the next one dirty.
    results = (":(top,exclude)benchmarks/results", ":(top,exclude)docs/performance/benchmarks.md")
    changes = git("status", "--porcelain", "--untracked-files=no", "--", ":(top)", *results)
    return f"{commit}-dirty" if commit and changes else commit


def device_name(device: torch.device) -> str:
    """Return the model name of a GPU or processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
