"""Searches of many clients at the same time against `python -m simcse_lit.serve` with all-MiniLM-L6-v2 and the bundled
sentences. Each client sends a search over its own connection on loopback, waits for the hits, and sends the next. The
server is a process; the clients share its cores.

Run: python benchmarks/serving.py [--seconds 60] [--clients 64] [--checkpoint MODEL]
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
from harness import MINILM, QUANTITIES, machine, report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--checkpoint", default=MINILM)
    given = parser.parse_args()
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
    rows = [
        ["clients", given.clients, ""],
        ["duration", round(seconds), "s"],
        ["searches", len(taken), ""],
        ["errors", len(errors), ""],
        ["rate", round(len(taken) / seconds), "searches/s"],
        ["p50", round(statistics.median(milliseconds)), "ms"],
        ["p99", round(milliseconds[int(0.99 * len(milliseconds))]), "ms"],
    ]
    report("serving", __doc__, "Searches of many clients", QUANTITIES, rows, machine("transformers"))
    for error in sorted(set(errors)):
        print(f"  {errors.count(error)} x {error}")
    return int(bool(errors))


def ready(address: str) -> str:
    try:
        return str(httpx.get(f"{address}/health").json()["corpus"]["state"])
    except httpx.TransportError:
        return "starting"


async def load(address: str, clients: int, seconds: float) -> tuple[list[float], list[str], float]:
    """Return the seconds of every search, the errors, and how long the clients ran."""
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
