"""What is measured, in turns, and the table that comes of it."""

import re
import statistics
import tempfile
from pathlib import Path

from ends import Failed, Uncalibrated, say

# How often a run of perftest may fail to calibrate its clock before we give up on it.
ATTEMPTS = 5
# Whom of ours the names of samples tell of.
WHO = ("track", "carrier", "segments", "lent", "bytes", "port", "shared", "table")


class Samples:
    """What was measured of whom; what is known of both ends comes from Ends."""

    def __init__(self, quick):
        self.quick = quick
        self.samples = {}
        self.lines = []
        # The part whose rows are told.
        self.telling = ""

    def rounds(self):
        return 3 if self.quick else 7

    # --- measuring

    def counted(self, name, messages, run, counts):
        """What `run` of each of two lengths sent, as packets for each message, and how often nobody was ready."""
        devices = {device.folder: device for device in (self.client, self.server)}.values()

        def total():
            both = [device.counters() for device in devices]
            return [None if None in column else sum(column) for column in zip(*both)]

        seen = []
        for count in counts:
            before = total()
            run(count)
            seen.append([None if a is None else b - a for a, b in zip(before, total())])
        (short, stalls), (long, more_stalls) = seen
        packets = None if short is None else (long - short) / ((counts[1] - counts[0]) * messages)
        self.note(f"packets/{name}", packets)
        self.note(f"rnr/{name}", None if stalls is None else stalls + more_stalls)

    def alternate(self, rounds, subjects):
        """Runs the subjects in turns, and notes what each says."""
        for turn in range(rounds):
            for name, run in subjects.items():
                say(f"  {turn + 1}/{rounds} {name}")
                self.note(name, self.calibrated(run))
        self.save()

    def calibrated(self, run):
        for _ in range(ATTEMPTS):
            try:
                return run()
            except Uncalibrated as nonsense:
                say(f"    rejected: {nonsense}")
        raise Failed(f"no measurement that can be believed in {ATTEMPTS} attempts")

    def per_message(self, run, counts, end="client"):
        """What a message costs at one end in user space, as callgrind counts: instructions, and notifications asked for."""
        with tempfile.TemporaryDirectory() as folder:
            profile = Path(folder) / "callgrind.out"
            callgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={profile}"]
            seen = []
            for count in counts:
                run(count, {end: callgrind})
                text = profile.read_text()
                seen.append((int(re.search(r"^(?:summary|totals): (\d+)", text, re.MULTILINE)[1]), arms(text)))
        (few, rare), (many, often) = seen
        more = counts[1] - counts[0]
        return {"count": (many - few) / more, "arms": (often - rare) / more}

    def note(self, name, value):
        if isinstance(value, dict):
            for key, one in value.items():
                self.note(f"{name}/{key}", one)
        else:
            self.samples.setdefault(name, []).append(value)

    # --- telling

    def median(self, name):
        values = [value for value in self.samples.get(name, []) if value is not None]
        return statistics.median(values) if values else None

    def ratio(self, ours, beside):
        """The median over the turns: what slows a whole turn down slows both of it."""
        turns = zip(self.samples.get(ours, []), self.samples.get(beside, []))
        ratios = [mine / other for mine, other in turns if mine is not None and other]
        return statistics.median(ratios) if ratios else None

    def cell(self, name, digits):
        values = [value for value in self.samples.get(name, []) if value is not None]
        if not values:
            return "not counted here"
        middle = f"{statistics.median(values):,.{digits}f}"
        if len(values) == 1:
            return middle
        return f"{middle} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"

    def row(self, what, ours, beside, digits, aim=None):
        """`aim` is a ratio: at most, or at least if it is negative."""
        line = {
            "part": self.telling,
            "what": what,
            # Where there is a third part, it is what was measured of whom.
            "who": next(part for part in ours.split("/")[1:] if part in WHO),
            "measured": self.cell(ours, digits),
            "beside": self.cell(beside, digits),
            "ratio": "",
            "aim": "",
        }
        ratio = self.ratio(ours, beside)
        if ratio is not None:
            line["ratio"] = f"{ratio:.2f}"
            if aim is not None:
                met = ratio <= aim if aim > 0 else ratio >= -aim
                line["aim"] = f"{'≤' if aim > 0 else '≥'} {abs(aim)} {'met' if met else 'NOT MET'}"
        self.lines.append(line)

    def zero_row(self, what, name):
        value = self.median(name)
        self.lines.append({
            "part": self.telling, "what": what, "who": name.split("/")[-1], "measured": self.cell(name, 0),
            "beside": "", "ratio": "", "aim": "" if value is None else f"0 {'met' if value == 0 else 'NOT MET'}",
        })  # fmt: skip


def arms(profile):
    """How many notifications a program asked the kernel for, by its callgrind profile; 0 where the device takes them
    without the kernel."""
    total, called, names = 0, None, {}
    for line in profile.splitlines():
        if found := re.match(r"c?fn=\((\d+)\)(?: (.*))?", line):
            # A name is written once, and meant by its number afterwards.
            number, name = found.groups()
            names.setdefault(number, name)
            if line.startswith("c"):
                called = names[number]
        elif line.startswith("calls=") and called == "ibv_cmd_req_notify_cq":
            total += int(line.removeprefix("calls=").split()[0])
    return total
