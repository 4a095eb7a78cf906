"""Memory and speed of `python -m simcse_lit.encode`, killed and continued. Run: python benchmarks/encode_file.py [--lines N]

Writes a synthetic text file, encodes it with a tiny random encoder in one run, whose memory is sampled from /proc (Linux) in
tenths of the run; then in a run that is killed (SIGKILL) `--kills` times and continued; and compares the SHA-256 of both.
Anonymous memory is what the process holds; the rest of the RSS are pages of files, which the kernel takes back at need.
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
from harness import machine
from transformers import AutoTokenizer, BertConfig, BertModel

from simcse_lit.config.resolvers import local_path

GROWTH_MB = 30  # of anonymous memory from the second tenth to the last


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=150_000)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--format", default="npy", choices=("npy", "safetensors", "parquet"))
    parser.add_argument("--folder", help="where the temporary folder is made; about 900 bytes a line")
    given = parser.parse_args()
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        write_text(folder / "corpus.txt", given.lines)
        tiny = local_path("pkg://simcse_lit/data/samples/tiny", "benchmark")
        torch.manual_seed(0)
        BertModel(BertConfig.from_pretrained(tiny)).save_pretrained(folder / "model")
        AutoTokenizer.from_pretrained(tiny).save_pretrained(folder / "model")
        print(f"{given.lines:,} lines, {(folder / 'corpus.txt').stat().st_size / 1e6:,.0f} MB of text, to .{given.format}")
        whole, killed = folder / f"whole.{given.format}", folder / f"killed.{given.format}"
        start = time.perf_counter()
        tenths = watched(folder, whole, given.lines)
        print(f"one run: {time.perf_counter() - start:.0f} s with the start; output {whole.stat().st_size / 1e6:,.0f} MB")
        print("peak MB by tenths of the lines: RSS " + " ".join(f"{total:,}" for total, _ in tenths))
        print("                    of it anonymous " + " ".join(f"{own:,}" for _, own in tenths))
        growth = tenths[-1][1] - tenths[1][1]
        print(f"anonymous memory grew by {growth} MB from the second tenth to the last, goal below {GROWTH_MB}")
        for number in range(given.kills):
            kill_at(folder, killed, given.lines * (number + 1) // (given.kills + 1))
        finish(folder, killed)
        same = sha256(whole) == sha256(killed)
        print(f"killed {given.kills} times and continued: {'the same' if same else 'OTHER'} bytes, sha256 {sha256(killed)}")
    return int(not same or growth >= GROWTH_MB)


def command(folder: Path, output: Path) -> list[str]:
    return [sys.executable, "-m", "simcse_lit.encode", f"checkpoint={folder}/model", "pooler=avg",
            f"input={folder}/corpus.txt", f"output={output}"]  # fmt: skip


def written(output: Path) -> int:
    """Lines whose vectors are safe."""
    try:
        return int(json.loads(output.with_name(f"{output.name}.partial.json").read_text(encoding="utf-8"))["rows"])
    except FileNotFoundError:
        return 0


def watched(folder: Path, output: Path, lines: int) -> list[tuple[int, int]]:
    """Peak (RSS, anonymous) in MB of an undisturbed run, by tenths of its lines."""
    process = subprocess.Popen(command(folder, output), stderr=subprocess.PIPE, text=True)
    peaks = [(0, 0)] * 10
    done = 0
    while process.poll() is None:
        done = max(done, written(output))
        tenth = min(9, 10 * done // lines)
        peaks[tenth] = tuple(map(max, zip(peaks[tenth], memory_mb(process.pid), strict=True)))  # type: ignore[assignment]
        time.sleep(0.05)
    said = process.stderr.read() if process.stderr else ""
    print("  | " + said.replace("\r", "\n").strip().splitlines()[-1].strip())
    if process.returncode:
        sys.exit(process.returncode)
    return peaks


def kill_at(folder: Path, output: Path, lines: int) -> None:
    """Start a run, or go on with it, and kill it once so many lines are safe."""
    process = subprocess.Popen(command(folder, output), stderr=subprocess.DEVNULL)
    while written(output) < lines:
        if process.poll() is not None:
            sys.exit(f"the run ended by itself, with status {process.returncode}")
        time.sleep(0.005)
    process.kill()
    process.wait()
    print(f"killed with {written(output):,} lines written")


def finish(folder: Path, output: Path) -> None:
    done = subprocess.run(command(folder, output), stderr=subprocess.PIPE, text=True)
    for line in done.stderr.replace("\r", "\n").splitlines():
        if line.strip() and "|" not in line:  # not the bar
            print(f"  | {line.strip()}")
    if done.returncode:
        sys.exit(done.returncode)


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
