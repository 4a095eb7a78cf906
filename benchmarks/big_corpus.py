"""Memory of training on a corpus larger than one would hold in it. Run: python benchmarks/big_corpus.py [--lines 5000000]

Writes a synthetic text file into a temporary folder, runs `python -m simcse_lit.train` on it (model=tiny, 50 steps, scored
once at the end), and samples that process's memory from /proc (Linux) in three phases: start, tokenise, train. Anonymous
memory is what the process holds; total RSS counts the pages of memory-mapped files too, which the kernel takes back at need.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path

import numpy as np

from simcse_lit.reporting.run.run_folder import git_commit

STEPS = 50
BLOCK = 50_000  # lines
GOAL_MB = 1500


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=5_000_000)
    parser.add_argument("--folder", help="where the temporary folder is made; the file takes about 140 bytes a line")
    parser.add_argument("overrides", nargs="*", help="more of KEY=VALUE for the training command")
    given = parser.parse_args()
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, commit {git_commit()}", flush=True)
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        start = time.perf_counter()
        write_text(folder / "corpus.txt", given.lines)
        size = (folder / "corpus.txt").stat().st_size
        print(
            f"{given.lines:,} lines, {size / 1e6:,.0f} MB of text, made in {time.perf_counter() - start:.0f} s", flush=True
        )
        return train(folder, given.lines, given.overrides)


def write_text(path: Path, lines: int, seed: int = 0) -> None:
    """Lines of 5 words and more, about 20, drawn from the running text of the bundled sentences."""
    words = files("simcse_lit").joinpath("data/samples/wikipedia.txt").read_text(encoding="utf-8").split()
    rng = np.random.default_rng(seed)
    with path.open("w", encoding="utf-8") as file:
        for start in range(0, lines, BLOCK):
            lengths = 5 + rng.poisson(15, min(BLOCK, lines - start))
            drawn = [words[place] for place in rng.integers(len(words), size=lengths.sum()).tolist()]
            ends = lengths.cumsum().tolist()
            file.writelines(
                " ".join(drawn[end - length : end]) + "\n" for end, length in zip(ends, lengths.tolist(), strict=True)
            )


def train(folder: Path, lines: int, overrides: list[str]) -> int:
    cache = folder / "cache"
    command = [sys.executable, "-m", "simcse_lit.train", "model=tiny", "data=file", f"data.train_file={folder}/corpus.txt",
               f"data.cache_dir={cache}", f"trainer.max_steps={STEPS}", "trainer=cpu", "senteval.from_hub=false",
               "senteval.dir=null", "evaluation.before=false", "evaluation.test=false", "callbacks.progress=null",
               f"hydra.run.dir={folder}/run", *overrides]  # fmt: skip
    peaks: dict[str, tuple[int, int]] = {}
    seconds: dict[str, float] = {}
    with (folder / "output.txt").open("w+", encoding="utf-8") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        last = time.perf_counter()
        while process.poll() is None:
            phase = "train" if any(cache.glob("*.arrow")) else "tokenise" if any(cache.glob("*.partial")) else "start"
            total, anonymous = memory_mb(process.pid)
            before = peaks.get(phase, (0, 0))
            peaks[phase] = (max(before[0], total), max(before[1], anonymous))
            time.sleep(0.1)
            now = time.perf_counter()
            seconds[phase] = seconds.get(phase, 0.0) + now - last
            last = now
        output.seek(0)
        print("".join(f"  | {line}\n" for line in output.read().splitlines() if line.strip() and "Tokenising:" not in line))
    if process.returncode:
        return process.returncode
    for phase, (total, anonymous) in peaks.items():
        print(f"{phase:<9} {seconds[phase]:6.1f} s   peak RSS {total:5,} MB, of it anonymous {anonymous:5,} MB")
    if "tokenise" in seconds:
        print(f"tokenised {lines / seconds['tokenise']:,.0f} lines/s")
    peak = max(total for total, _ in peaks.values())
    print(f"peak RSS {peak:,} MB, goal below {GOAL_MB:,} MB: {'reached' if peak < GOAL_MB else 'MISSED'}")
    return int(peak >= GOAL_MB)


def memory_mb(pid: int) -> tuple[int, int]:
    """(total, anonymous) resident memory of a process now; (0, 0) if it has ended."""
    try:
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines())
        return tuple(int(fields[key].split()[0]) * 1024 // 1_000_000 for key in ("VmRSS", "RssAnon"))  # type: ignore[return-value]
    except (OSError, KeyError):
        return 0, 0


if __name__ == "__main__":
    sys.exit(main())
