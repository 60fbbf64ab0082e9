"""What scripts/bench-verbs runs where there is an RDMA device: every program in turn, and a table.

Each measurement is of two processes, a server on the second address and a client on the first. What is counted
(instructions, packets) is counted at two lengths, and the difference is what a message costs: start and end cancel out.
What is timed is timed in turns, so that a slow moment of the machine hits everyone: the medians are reported with their
spread, and as ratio the median of the turns' ratios.
"""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path

from carriers import Carriers
from ends import Ends, Failed, say
from samples import Samples
from tracks import Tracks

PARTS = (
    "instructions", "packets", "latency", "throughput", "cpu",
    "large", "datagrams", "read", "write", "atomics", "shared",
    "messages", "streams", "costs",
)  # fmt: skip


class Bench(Ends, Samples, Tracks, Carriers):
    def __init__(self, programs, quick):
        Ends.__init__(self, programs)
        Samples.__init__(self, quick)

    def tell(self, parts):
        for part in parts:
            self.telling = part
            getattr(self, f"tell_{part}")()
        columns = ("what", "who", "measured", "beside", "ratio", "aim")
        table = [dict(zip(columns, ("", "", "median (spread)", "median (spread)", "ratio", "aim"))), *self.lines]
        width = {column: max(len(line[column]) for line in table) for column in columns}
        for line in table:
            print("  ".join(line[column].ljust(width[column]) for column in columns).rstrip())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("programs", type=Path)
    args = parser.parse_args()
    parts = args.only.split(",")
    if unknown := set(parts) - set(PARTS):
        sys.exit(f"no such part: {', '.join(sorted(unknown))}")

    machine = os.environ.get("TRESPASS_RDMA_ON", "?")
    try:
        bench = Bench(args.programs, args.quick)
    except Failed as failure:
        sys.exit(f"bench-verbs: {failure}")
    # A part that fails is no reason to lose the others.
    failed = {part: failure for part in PARTS if part in parts and (failure := attempt(bench, part))}
    print(f"on {bench.client.name} and {bench.server.name} ({machine}), {os.cpu_count()} CPUs")
    bench.tell([part for part in PARTS if part in parts and part not in failed])
    if results := os.environ.get("TRESPASS_RESULTS"):
        report = {"machine": machine, "cpus": os.cpu_count(), "kernel": platform.release(), "quick": args.quick,
                  "samples": bench.samples, "table": bench.lines}  # fmt: skip
        path = Path(results) / "bench-verbs.json"
        path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
        say(f"all samples: {path}")
    if failed:
        sys.exit("\n".join(f"bench-verbs: {part}: {failure}" for part, failure in failed.items()))


def attempt(bench, part):
    """What went wrong with a part."""
    started = time.monotonic()
    say(f"{part}…")
    try:
        getattr(bench, part)()
    except Failed as failure:
        say(f"  failed: {failure}")
        return failure
    say(f"  {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
