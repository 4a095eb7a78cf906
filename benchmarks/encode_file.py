"""Memory and speed of `python -m simcse_lit.encode` on a synthetic text file with a tiny random encoder. One run is
left alone while its memory is sampled from /proc, by tenths of its lines; another is killed (SIGKILL) several times and
continued, and must write the same bytes. Anonymous memory is what the process holds itself; resident memory also counts
pages of files, which the kernel takes back when needed.

Run: python benchmarks/encode_file.py [--lines N] [--kills N]. Linux only.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from big_corpus import memory_mb, write_text
from harness import QUANTITIES, machine, report
from transformers import AutoTokenizer, BertConfig, BertModel

from simcse_lit.config.resolvers import local_path

GROWTH_MB = 30  # of anonymous memory from the second tenth to the last


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=150_000)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--format", default="npy", choices=("npy", "safetensors", "parquet"))
    parser.add_argument("--folder", help="where the temporary folder is made; about 900 bytes a line")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        write_text(folder / "corpus.txt", given.lines)
        tiny = local_path("pkg://simcse_lit/data/samples/tiny", "benchmark")
        torch.manual_seed(0)
        BertModel(BertConfig.from_pretrained(tiny)).save_pretrained(folder / "model")
        AutoTokenizer.from_pretrained(tiny).save_pretrained(folder / "model")
        whole, killed = folder / f"whole.{given.format}", folder / f"killed.{given.format}"
        start = time.perf_counter()
        tenths = watched(folder, whole, given.lines)
        seconds = time.perf_counter() - start
        stops = [given.lines * (number + 1) // (given.kills + 1) for number in range(given.kills)]
        written_at_kill = [kill_at(folder, killed, stop) for stop in stops]
        finish(folder, killed)
        same = sha256(whole) == sha256(killed)
        rows = [
            ["one run, start included", round(seconds), "s"],
            ["its output", round(whole.stat().st_size / 1e6), "MB"],
            ["peak resident memory by tenths of the lines", [total for total, _ in tenths], "MB"],
            ["of it anonymous", [own for _, own in tenths], "MB"],
            ["lines written when the other run was killed", written_at_kill, "lines"],
            ["the other run wrote the same bytes", "yes" if same else "NO", ""],
        ]
    title = f"Encode {given.lines:,} lines to .{given.format}, killed {given.kills} times and continued"
    report("encode_file", __doc__, title, QUANTITIES, rows, machine("transformers"))
    growth = tenths[-1][1] - tenths[1][1]
    print(f"anonymous memory grew by {growth} MB from the second tenth to the last, goal below {GROWTH_MB}")
    return int(not same or growth >= GROWTH_MB)


def command(folder: Path, output: Path) -> list[str]:
    return [sys.executable, "-m", "simcse_lit.encode", f"checkpoint={folder}/model", "pooler=avg",
            f"input={folder}/corpus.txt", f"output={output}"]  # fmt: skip


def written(output: Path) -> int:
    """How many lines have their vectors safely on the disk."""
    try:
        return int(json.loads(output.with_name(f"{output.name}.partial.json").read_text(encoding="utf-8"))["rows"])
    except FileNotFoundError:
        return 0


def watched(folder: Path, output: Path, lines: int) -> list[tuple[int, int]]:
    """Run the command and return the peaks of resident and of anonymous memory in MB, by tenths of its lines."""
    process = subprocess.Popen(command(folder, output), stderr=subprocess.PIPE, text=True)
    peaks = [(0, 0)] * 10
    done = 0
    while process.poll() is None:
        done = max(done, written(output))
        tenth = min(9, 10 * done // lines)
        peaks[tenth] = tuple(map(max, zip(peaks[tenth], memory_mb(process.pid), strict=True)))  # type: ignore[assignment]
        time.sleep(0.05)
    said = process.stderr.read() if process.stderr else ""
    if process.returncode:
        sys.exit(said)
    return peaks


def kill_at(folder: Path, output: Path, lines: int) -> int:
    """Start or continue a run, kill it once `lines` lines are on the disk, and return how many were."""
    process = subprocess.Popen(command(folder, output), stderr=subprocess.DEVNULL)
    while written(output) < lines:
        if process.poll() is not None:
            sys.exit(f"the run ended by itself, with status {process.returncode}")
        time.sleep(0.005)
    process.kill()
    process.wait()
    return written(output)


def finish(folder: Path, output: Path) -> None:
    done = subprocess.run(command(folder, output), stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.stderr)


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
