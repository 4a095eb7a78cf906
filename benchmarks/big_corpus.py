"""Memory of `python -m simcse_lit.train` on a synthetic text file that is larger than a process would hold. The encoder
is `model=tiny`, training takes 50 steps and is scored once at the end. Memory is sampled from /proc. Anonymous memory
is what the process holds itself; resident memory also counts pages of memory-mapped files, which the kernel takes back
when needed.

Run: python benchmarks/big_corpus.py [--lines 5000000]. Linux only.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path

import numpy as np
from harness import Column, machine, report

STEPS = 50
BLOCK = 50_000  # lines
GOAL_MB = 1500


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=5_000_000)
    parser.add_argument("--folder", help="where the temporary folder is made; the file takes about 140 bytes a line")
    parser.add_argument("overrides", nargs="*", help="more of KEY=VALUE for the training command")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        write_text(folder / "corpus.txt", given.lines)
        return train(folder, given.lines, given.overrides)


def write_text(path: Path, lines: int, seed: int = 0) -> None:
    """Write lines of at least 5 and about 20 words, drawn at random from the bundled sentences."""
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
        said = output.read()
    if process.returncode:
        print(said, file=sys.stderr)
        return process.returncode
    rows = [
        [phase, seconds[phase], round(lines / seconds[phase]) if phase == "tokenise" else None, total, anonymous]
        for phase, (total, anonymous) in peaks.items()
    ]
    columns = [
        Column("phase"),
        Column("time", "s", ".1f"),
        Column("rate", "lines/s"),
        Column("peak resident memory", "MB"),
        Column("of it anonymous", "MB"),
    ]
    size = (folder / "corpus.txt").stat().st_size / 1e6
    title = f"Training on {lines:,} lines, {size:,.0f} MB of text"
    report("big_corpus", __doc__, title, columns, rows, machine("transformers", "datasets"))
    peak = max(total for total, _ in peaks.values())
    print(f"peak RSS {peak:,} MB, goal below {GOAL_MB:,} MB: {'reached' if peak < GOAL_MB else 'MISSED'}")
    return int(peak >= GOAL_MB)


def memory_mb(pid: int) -> tuple[int, int]:
    """Total and anonymous resident memory of a process, in MB; (0, 0) if it has ended."""
    try:
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines())
        return tuple(int(fields[key].split()[0]) * 1024 // 1_000_000 for key in ("VmRSS", "RssAnon"))  # type: ignore[return-value]
    except (OSError, KeyError):
        return 0, 0


if __name__ == "__main__":
    sys.exit(main())
