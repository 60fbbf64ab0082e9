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
from gets import Gets
from samples import Samples
from tracks import Tracks

PARTS = (
    "instructions", "packets", "latency", "throughput", "cpu",
    "large", "datagrams", "read", "write", "atomics", "get", "shared",
    "messages", "streams", "costs",
)  # fmt: skip


class Bench(Ends, Samples, Tracks, Gets, Carriers):
    def __init__(self, programs, quick):
        Ends.__init__(self, programs)
        Samples.__init__(self, quick)
        self.machine = os.environ.get("TRESPASS_RDMA_ON", "?")
        # Those that were begun, and what went wrong with some.
        self.parts, self.failures = [], {}

    def attempt(self, part):
        """A part that fails is no reason to lose the others."""
        started = time.monotonic()
        say(f"{part}…")
        try:
            getattr(self, part)()
        except Failed as failure:
            say(f"  failed: {failure}")
            self.failures[part] = failure
        say(f"  {time.monotonic() - started:.0f} s")

    def tell(self):
        """The table, of what was measured so far."""
        self.lines = []
        for part in self.parts:
            if part not in self.failures:
                self.telling = part
                getattr(self, f"tell_{part}")()

    def show(self):
        print(f"on {self.client.name} and {self.server.name} ({self.machine}), {os.cpu_count()} CPUs")
        columns = ("what", "who", "measured", "beside", "ratio", "aim")
        table = [dict(zip(columns, ("", "", "median (spread)", "median (spread)", "ratio", "aim"))), *self.lines]
        width = {column: max(len(line[column]) for line in table) for column in columns}
        for line in table:
            print("  ".join(line[column].ljust(width[column]) for column in columns).rstrip())

    def save(self):
        """What there is so far: whoever ends a long run early has that."""
        self.tell()
        if results := os.environ.get("TRESPASS_RESULTS"):
            report = {"machine": self.machine, "cpus": os.cpu_count(), "kernel": platform.release(), "quick": self.quick,
                      "samples": self.samples, "table": self.lines}  # fmt: skip
            path = Path(results) / "bench-verbs.json"
            path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
            return path
        return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("programs", type=Path)
    args = parser.parse_args()
    parts = args.only.split(",")
    if unknown := set(parts) - set(PARTS):
        sys.exit(f"no such part: {', '.join(sorted(unknown))}")

    try:
        bench = Bench(args.programs, args.quick)
    except Failed as failure:
        sys.exit(f"bench-verbs: {failure}")
    for part in PARTS:
        if part in parts:
            bench.parts.append(part)
            bench.attempt(part)
    saved = bench.save()
    bench.show()
    if saved:
        say(f"all samples: {saved}")
    if bench.failures:
        sys.exit("\n".join(f"bench-verbs: {part}: {failure}" for part, failure in bench.failures.items()))


if __name__ == "__main__":
    main()
