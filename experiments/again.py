"""Train the claims marked `again` in claims.yaml anew, and compare their verdicts with those of experiments/rows.csv.

Run: SIMCSE_DATA=DIR python -m experiments.again [KEY=VALUE...]

It writes build/evidence/rows.csv and evidence.md, and exits with 1 if a verdict changed. The other claims count with the
rows that they have, so that Holm's correction is over as many claims as on the page. Stop it at any time: the same
command goes on with the runs that have no row of this commit. Overrides hold for every run, for example
`trainer.precision=bf16-mixed`.
"""

import argparse
import os
import sys
from pathlib import Path

from experiments import rows
from experiments.evidence import claims_table
from experiments.run import code_commit, run_missing
from experiments.settings import jobs_of_sweep, need_data
from experiments.verdicts import SEEDS, judge, read_claims
from simcse_lit.tables import markdown_table

FOLDER = Path(__file__).parents[1] / "build" / "evidence"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--at-once", type=int, default=os.cpu_count() or 1, help="runs side by side; default: one a core")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    given = parser.parse_intermixed_args()
    need_data()
    every = read_claims()
    claims = [claim for claim in every if claim.again]
    settings = {side for claim in claims for side in claim.sides}
    seeds = f"seed={','.join(map(str, range(SEEDS)))}"
    overrides = ["evaluation.test=false", "evaluation.before=false", seeds, *given.overrides]
    sweeps = dict.fromkeys(claim.sweep for claim in claims)
    jobs = [job for name in sweeps for job in jobs_of_sweep(name, overrides) if job.setting in settings]
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / "rows.csv"
    rows.write([row for row in rows.read(path) if row.commit == code_commit() and "dirty" not in row.commit], path)
    run_missing(jobs, path, given.at_once)
    now = [one for one in judge(every, rows.read(), rows.read(path)) if one.claim.again]
    before = {one.claim: one.word for one in judge(every, rows.read())}
    (FOLDER / "evidence.md").write_text(markdown_table(claims_table(now)) + "\n", encoding="utf-8")
    changed = [one for one in now if one.word != before[one.claim]]
    for one in now:
        note = f"; before: {before[one.claim]}" if one in changed else ""
        print(f"{one.claim.claim}: {one.word} ({one.mean:+.2f}, {len(one.differences)} seeds){note}")
    print(f"Written to {FOLDER.relative_to(Path.cwd()) if FOLDER.is_relative_to(Path.cwd()) else FOLDER}")
    return bool(changed)


if __name__ == "__main__":
    sys.exit(main())
