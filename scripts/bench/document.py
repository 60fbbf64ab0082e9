"""What `scripts/bench-verbs --document` does: puts the tables of the last run into docs/PERFORMANCE.md.

Each part has its place there, between two comments; parts that were not run keep what they have.
"""

import json
import re
import sys
from pathlib import Path

HEAD = "| what | ours | measured | beside | ratio | aim |\n|---|---|---|---|---|---|\n"
MACHINES = {"tcg": "emulated, two soft-RoCE devices", "kvm": "virtual, two soft-RoCE devices"}


def table(report, part):
    lines = [line for line in report["table"] if line["part"] == part]
    cells = ("what", "who", "measured", "beside", "ratio", "aim")
    rows = "".join(f"| {' | '.join(line[cell] for cell in cells)} |\n" for line in lines)
    machine = MACHINES.get(report["machine"], report["machine"])
    return f"Measured: {machine}, {report['cpus']} CPUs, Linux {report['kernel']}.\n\n{HEAD}{rows}"


def main():
    root = Path(sys.argv[1])
    results, document = root / "target/rdma-results/bench-verbs.json", root / "docs/PERFORMANCE.md"
    if not results.exists():
        sys.exit(f"bench-verbs: there is no {results}: run scripts/bench-verbs first")
    report = json.loads(results.read_text())
    if report["quick"]:
        sys.exit("bench-verbs: a quick run says whether it works, not what it is: run it without --quick")
    text = document.read_text()
    for part in dict.fromkeys(line["part"] for line in report["table"]):
        place = re.compile(rf"(<!-- {part} -->\n).*?(<!-- /{part} -->)", re.DOTALL)
        text, places = place.subn(lambda at, part=part: f"{at[1]}{table(report, part)}{at[2]}", text)
        if places != 1:
            sys.exit(f"bench-verbs: {document} has no one place for {part}")
    document.write_text(text)


if __name__ == "__main__":
    main()
