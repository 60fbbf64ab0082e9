"""What scripts/bench-verbs runs where there is an RDMA device: every program in turn, and a table.

Each measurement is of two processes, a server on the second address and a client on the first. What is counted
(instructions, packets) is counted at two lengths, and the difference is what a message costs: start and end cancel out.
What is timed is timed in turns, so that a slow moment of the machine hits everyone, and the median is reported with its
spread.
"""

import argparse
import ipaddress
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# A run that takes longer is stuck.
PATIENCE = 300
# As ib_send_bw has it: sends under way, and receives posted.
TX_DEPTH, RX_DEPTH = 128, 512
# Messages for one doorbell where CPU time is compared.
BATCH = 16
# How often a run of perftest may fail to calibrate its clock before we give up on it.
ATTEMPTS = 5

# How many tracks share their queues, and the sends and receives of each: fewer than of one alone, so that the
# completion queues of all fit the device. perftest makes one of as many completions as connections times its receives.
TRACKS = (1, 16, 64)
SHARED_TX, SHARED_RX = 32, 128
COMPLETIONS = 32_000

PARTS = (
    "instructions", "packets", "latency", "throughput", "cpu",
    "large", "datagrams", "read", "write", "atomics", "shared",
)  # fmt: skip
# Whom of ours the names of samples tell of.
WHO = ("track", "carrier", "segments", "lent", "port", "shared")

# Lengths of long messages, in KiB: around where lending them begins to pay, and far above.
LONG = (16, 32, 64, 256, 1024)


class Failed(Exception):
    pass


class Uncalibrated(Exception):
    """perftest could not tell the time, and said so only by nonsense."""


class Device:
    """The device, port and GID of an address."""

    def __init__(self, address):
        self.address = address
        wanted = ipaddress.ip_address(f"::ffff:{address}")
        for gid in sorted(Path("/sys/class/infiniband").glob("*/ports/*/gids/*")):
            try:
                port = gid.parent.parent
                kind = (port / "gid_attrs/types" / gid.name).read_text().strip()
                # Without RoCE v2 (its predecessor is not routed) we would talk another protocol than rdma_cm does.
                if kind == "RoCE v2" and ipaddress.ip_address(gid.read_text().strip()) == wanted:
                    self.name, self.port, self.gid = port.parent.parent.name, port.name, gid.name
                    self.folder = port
                    return
            except OSError:
                # An empty entry of the table cannot be read.
                continue
        raise Failed(f"no RoCE device has the address {address}")

    def counters(self):
        """Packets sent and receiver-not-ready, where the device counts them."""

        def read(*names):
            for name in names:
                path = self.folder / name
                if path.exists():
                    return int(path.read_text())
            return None

        packets = read("hw_counters/sent_pkts", "counters/port_xmit_packets")
        not_ready = read("hw_counters/rcvd_rnr_err", "hw_counters/rnr_nak_retry_err")
        return packets, not_ready


class Bench:
    def __init__(self, programs, quick):
        first, second = os.environ["TRESPASS_RDMA_ADDRS"].split()
        self.client, self.server = Device(first), Device(second)
        self.programs, self.quick = programs, quick
        self.port = 20000
        self.samples = {}
        self.lines = []

    # --- running

    def pair(self, server, client, ready, instrument=()):
        """Runs both ends, and returns what they printed."""
        with subprocess.Popen(server, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as peer:
            try:
                early = ready(peer)
                done = subprocess.run(
                    [*instrument, *client], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                    timeout=PATIENCE, check=False,
                )  # fmt: skip
                if done.returncode:
                    raise Failed(f"{' '.join(client)} ended with {done.returncode}:\n{done.stdout}")
                late, _ = peer.communicate(timeout=PATIENCE)
                if peer.returncode:
                    raise Failed(f"{' '.join(server)} ended with {peer.returncode}:\n{early}{late}")
                return done.stdout, early + late
            except subprocess.TimeoutExpired as error:
                raise Failed(f"{' '.join(map(str, error.cmd))} took more than {PATIENCE} s") from error
            finally:
                peer.kill()

    def next_port(self):
        self.port += 1
        return self.port

    def said(self, word):
        """Ready once the server has said this."""

        def ready(peer):
            line = peer.stdout.readline()
            if word not in line:
                raise Failed(f"the server said: {line}{peer.stdout.read()}")
            return line

        return ready

    def listens(self, port):
        """Ready once somebody listens on this TCP port."""

        def ready(peer):
            wanted = f":{port:04X}"
            end = time.monotonic() + PATIENCE
            while time.monotonic() < end and peer.poll() is None:
                for table in ("/proc/net/tcp", "/proc/net/tcp6"):
                    for line in Path(table).read_text().splitlines()[1:]:
                        _, local, _, state = line.split()[:4]
                        # 0A is LISTEN.
                        if local.endswith(wanted) and state == "0A":
                            return ""
                time.sleep(0.02)
            raise Failed(f"nobody listens on port {port}: {peer.stdout.read() if peer.poll() is not None else ''}")

        return ready

    def ours(self, over, work, count, instrument=(), **settings):
        port = self.next_port()
        words = [f"{key.replace('_', '-')}={value}" for key, value in settings.items()]

        def end(side, local):
            return [self.programs / "verbs", side, over, work, f"local={local}",
                    f"peer={self.server.address}:{port}", f"count={count}", *words]  # fmt: skip

        printed = self.pair(
            [str(word) for word in end("server", self.server.address)],
            [str(word) for word in end("client", self.client.address)],
            self.said("listening"), instrument,
        )  # fmt: skip
        return (*map(last_json, printed), printed[0])

    def hand_written(self, count):
        port = self.next_port()
        rest = [self.server.address, port, 64, count, BATCH, TX_DEPTH, RX_DEPTH]
        command = [str(self.programs / "post_poll")]
        printed = self.pair(
            command + ["server", *map(str, rest)], command + ["client", *map(str, rest)], self.said("listening")
        )
        return tuple(map(last_json, printed))

    def rc_pingpong(self, count, instrument=()):
        port = self.next_port()

        def end(device, *peer):
            return ["ibv_rc_pingpong", "-e", "-d", device.name, "-i", device.port, "-g", device.gid, "-s", "64",
                    "-n", str(count), "-p", str(port), *peer]  # fmt: skip

        return self.pair(
            end(self.server), end(self.client, self.server.address), self.listens(port), instrument
        )[0]

    def perftest(self, name, count, size, *options, queues=1):
        """The last line of its table, as numbers. `count` is for each queue pair."""
        port = self.next_port()
        # It has no other size, and no option to say so.
        sized = [] if name == "ib_atomic_bw" else ["-s", str(size)]

        def end(device, *peer):
            # -F: the frequency governor of an emulated CPU is nobody's concern.
            return [name, "-F", "-d", device.name, "-i", device.port, "-x", device.gid, *sized,
                    "-n", str(count), "-p", str(port), *options, *peer]  # fmt: skip

        printed = self.pair(end(self.server), end(self.client, self.server.address), self.listens(port))[0]
        rows = [line.split() for line in printed.splitlines() if re.match(rf"\s*{size}\s+{count * queues}\s", line)]
        if not rows:
            raise Failed(f"{name} printed no result:\n{printed}")
        return [float(word) for word in rows[-1]]

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
                for attempt in range(ATTEMPTS):
                    try:
                        self.note(name, run())
                        break
                    except Uncalibrated as nonsense:
                        say(f"    rejected: {nonsense}")

    def note(self, name, value):
        if isinstance(value, dict):
            for key, one in value.items():
                self.note(f"{name}/{key}", one)
        else:
            self.samples.setdefault(name, []).append(value)

    def instructions(self):
        short, long = (500, 1000) if self.quick else (1000, 3000)
        rounds = 1 if self.quick else 3

        def per_round_trip(run):
            with tempfile.TemporaryDirectory() as folder:
                profile = Path(folder) / "callgrind.out"
                valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={profile}"]

                def counts(count):
                    run(count, valgrind)
                    text = profile.read_text()
                    return int(re.search(r"^(?:summary|totals): (\d+)", text, re.MULTILINE)[1]), arms(text)

                (few, rare), (many, often) = counts(short), counts(long)
            return {"count": (many - few) / (long - short), "arms": (often - rare) / (long - short)}

        self.alternate(rounds, {
            "instructions/track": lambda: per_round_trip(lambda n, by: self.ours("track", "pingpong", n, by)),
            "instructions/carrier": lambda: per_round_trip(lambda n, by: self.ours("carrier", "pingpong", n, by)),
            "instructions/ibv_rc_pingpong -e": lambda: per_round_trip(self.rc_pingpong),
        })  # fmt: skip

    def packets(self):
        counts = (200, 400) if self.quick else (1000, 2000)
        for over in ("track", "carrier"):
            say(f"  {over}")
            # Two messages a round trip.
            self.counted(f"64 B/{over}", 2, lambda n: self.ours(over, "pingpong", n), counts)
            self.counted(f"64 KiB/{over}", 1, lambda n: self.stream(over, n), counts)
        say("  perftest")
        self.counted("64 B/ib_send_lat", 2, lambda n: self.perftest("ib_send_lat", n, 64), counts)
        self.counted("64 KiB/ib_send_bw", 1, lambda n: self.perftest("ib_send_bw", n, 65536), counts)

    def stream(self, over, count):
        return self.ours(over, "stream", count, wait="polling", size=65536, warmup=16,
                         send_slots=TX_DEPTH, recv_slots=RX_DEPTH)  # fmt: skip

    def latency(self):
        count = 500 if self.quick else 5000

        def half(over, wait):
            client, *_ = self.ours(over, "pingpong", count, wait=wait)
            # The mean hides in one number what a busy machine does to a few round trips; the median does not.
            return {"median": client["median_ns"] / 2000, "mean": client["elapsed_ns"] / count / 2000}

        def beside(*options):
            # Size, iterations, min, max, typical, average: half round trips, in microseconds.
            row = self.perftest("ib_send_lat", count, 64, *options)
            sane(row[4:6])
            return {"median": row[4], "mean": row[5]}

        self.alternate(self.rounds(), {
            "latency/track": lambda: half("track", "polling"),
            "latency/carrier": lambda: half("carrier", "polling"),
            "latency/ib_send_lat": beside,
            "asleep/track": lambda: half("track", "events"),
            "asleep/carrier": lambda: half("carrier", "events"),
            "asleep/ib_send_lat -e": lambda: beside("-e"),
        })  # fmt: skip

    def throughput(self):
        count = 200 if self.quick else 1000

        def ours(over):
            client, *_ = self.stream(over, count)
            return mebibytes(client)

        def beside():
            return self.bandwidth("ib_send_bw", count, "-t", str(TX_DEPTH), "-r", str(RX_DEPTH))

        self.alternate(self.rounds(), {
            "throughput/track": lambda: ours("track"),
            "throughput/carrier": lambda: ours("carrier"),
            "throughput/ib_send_bw": beside,
        })  # fmt: skip

    def cpu(self):
        count = 2000 if self.quick else 20000

        def both(client, server):
            return (client["cpu_ns"] + server["cpu_ns"]) / count / 1000

        def ours(over):
            client, server, _ = self.ours(over, "stream", count, wait="polling", warmup=count // 10, batch=BATCH,
                                          send_slots=TX_DEPTH, recv_slots=RX_DEPTH)  # fmt: skip
            return both(client, server)

        self.alternate(self.rounds(), {
            "cpu/track": lambda: ours("track"),
            "cpu/carrier": lambda: ours("carrier"),
            "cpu/post_poll.c": lambda: both(*self.hand_written(count)),
        })  # fmt: skip

    def datagrams(self):
        count = 500 if self.quick else 5000

        def half(over):
            client, *_ = self.ours(over, "pingpong", count, wait="polling")
            return {"median": client["median_ns"] / 2000, "mean": client["elapsed_ns"] / count / 2000}

        def beside():
            row = self.perftest("ib_send_lat", count, 64, "-c", "UD")
            sane(row[4:6])
            return {"median": row[4], "mean": row[5]}

        self.alternate(self.rounds(), {
            "datagrams/track": lambda: half("datagrams"),
            "datagrams/port": lambda: half("port"),
            "datagrams/ib_send_lat -c UD": beside,
        })  # fmt: skip

    def operations(self, work, count, size, under_way):
        """Operations of a client that polls, while the server sleeps."""
        client, *_ = self.ours("track", work, count, wait="polling", size=size, warmup=count // 10,
                               send_slots=TX_DEPTH, under_way=under_way)  # fmt: skip
        # How many the connection can have under way is known by asking it.
        self.fetches = client["fetch_slots"]
        return client

    def outstanding(self):
        """For perftest: as many reads and atomic operations under way as the track had, behind as deep a queue."""
        return ["-o", str(self.fetches), "-t", str(TX_DEPTH)]

    def read(self):
        few, many = (500, 200) if self.quick else (5000, 1000)

        def latency():
            client = self.operations("read", few, 64, 1)
            return {"median": client["median_ns"] / 1000, "mean": client["elapsed_ns"] / few / 1000}

        def latency_beside():
            # A read is there and back; unlike that of sends, this is the whole of it.
            row = self.perftest("ib_read_lat", few, 64)
            sane(row[4:6])
            return {"median": row[4], "mean": row[5]}

        self.alternate(self.rounds(), {
            "read latency/track": latency,
            "read latency/ib_read_lat": latency_beside,
            "read/track": lambda: mebibytes(self.operations("read", many, 65536, TX_DEPTH)),
            "read/ib_read_bw": lambda: self.bandwidth("ib_read_bw", many, *self.outstanding()),
        })  # fmt: skip

    def write(self):
        count = 200 if self.quick else 1000
        self.alternate(self.rounds(), {
            "write/track": lambda: mebibytes(self.operations("write", count, 65536, TX_DEPTH)),
            "write/ib_write_bw": lambda: self.bandwidth("ib_write_bw", count, "-t", str(TX_DEPTH)),
        })  # fmt: skip

    def bandwidth(self, name, count, *options):
        # Size, iterations, peak, average: MiB/s.
        average = self.perftest(name, count, 65536, *options)[3]
        sane([average])
        return average

    def atomics(self):
        count = 2000 if self.quick else 20000
        self.alternate(self.rounds(), {
            "atomics/track": lambda: rate(self.operations("add", count, 8, TX_DEPTH)),
            "atomics/ib_atomic_bw": lambda: self.rate_of("ib_atomic_bw", count, 8, "-A", "FETCH_AND_ADD",
                                                         *self.outstanding()),
        })  # fmt: skip

    def rate_of(self, name, count, size, *options, queues=1):
        # Size, iterations, peak, average, millions of messages a second.
        row = self.perftest(name, count, size, *options, queues=queues)
        sane(row[3:5])
        return row[4] * 1000

    def large(self):
        for size in LONG:
            say(f"  {size} KiB")
            count = max((16 if self.quick else 64) * 1024 // size, 20)
            length = size * 1024

            def ours(over, count=count, length=length):
                client, *_ = self.ours(over, "stream", count, size=length, warmup=count // 10)
                return mebibytes(client, length)

            def beside(count=count, length=length):
                row = self.perftest("ib_send_bw", count, length, "-t", "16", "-r", "64")
                sane(row[3:5])
                return row[3]

            self.alternate(self.rounds(), {
                f"large {size}/segments": lambda: ours("segments"),
                f"large {size}/lent": lambda: ours("lent"),
                f"large {size}/ib_send_bw": beside,
            })  # fmt: skip

    def shared(self):
        total = 6400 if self.quick else 64000
        for tracks in TRACKS:
            say(f"  over {tracks}")
            count = total // tracks

            def ours(over, tracks=tracks, count=count):
                client, *_ = self.ours(over, "many", count, wait="polling", warmup=count // 10, tracks=tracks,
                                       send_slots=SHARED_TX, recv_slots=SHARED_RX)  # fmt: skip
                return rate(client)

            def beside(receives, *options, tracks=tracks, count=count):
                return self.rate_of("ib_send_bw", count, 64, "-q", str(tracks), "-t", str(SHARED_TX),
                                    "-r", str(receives), *options, queues=tracks)  # fmt: skip

            self.alternate(self.rounds(), {
                f"shared {tracks}/shared": lambda: ours("shared"),
                f"shared {tracks}/track": lambda: ours("track"),
                f"shared {tracks}/ib_send_bw": lambda: beside(SHARED_RX),
                # One queue, as long as those of all together where that may be.
                f"shared {tracks}/ib_send_bw --use-srq": lambda: beside(
                    min(SHARED_RX * tracks, COMPLETIONS // tracks), "--use-srq"),
            })  # fmt: skip

    def rounds(self):
        return 3 if self.quick else 7

    # --- telling

    def median(self, name):
        values = [value for value in self.samples.get(name, []) if value is not None]
        return statistics.median(values) if values else None

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
        mine, other = self.median(ours), self.median(beside)
        line = {
            "what": what,
            # Where there is a third part, it is what was measured of whom.
            "who": next(part for part in ours.split("/")[1:] if part in WHO),
            "measured": self.cell(ours, digits),
            "beside": self.cell(beside, digits),
            "ratio": "",
            "aim": "",
        }
        if mine is not None and other:
            ratio = mine / other
            line["ratio"] = f"{ratio:.2f}"
            if aim is not None:
                met = ratio <= aim if aim > 0 else ratio >= -aim
                line["aim"] = f"{'≤' if aim > 0 else '≥'} {abs(aim)} {'met' if met else 'NOT MET'}"
        self.lines.append(line)

    def zero_row(self, what, name):
        value = self.median(name)
        self.lines.append({
            "what": what, "who": name.split("/")[-1], "measured": self.cell(name, 0), "beside": "", "ratio": "",
            "aim": "" if value is None else f"0 {'met' if value == 0 else 'NOT MET'}",
        })  # fmt: skip

    def tell(self, parts):
        if "instructions" in parts:
            for over, aim in (("track", 1.1), ("carrier", 1.5)):
                self.row("instructions per 64 B round trip, beside ibv_rc_pingpong -e",
                         f"instructions/{over}/count", "instructions/ibv_rc_pingpong -e/count", 0, aim)  # fmt: skip
            for over in ("track", "carrier"):
                # What a round trip costs depends on whether the answer was there before one asked to be woken.
                self.row("… notifications asked for in it",
                         f"instructions/{over}/arms", "instructions/ibv_rc_pingpong -e/arms", 2)  # fmt: skip
        if "packets" in parts:
            for size, peer in (("64 B", "ib_send_lat"), ("64 KiB", "ib_send_bw")):
                for over in ("track", "carrier"):
                    # A slow machine sends one or the other again.
                    self.row(f"packets per {size} message, beside {peer}",
                             f"packets/{size}/{over}", f"packets/{size}/{peer}", 2, 1.01)  # fmt: skip
            for size in ("64 B", "64 KiB"):
                for over in ("track", "carrier"):
                    self.zero_row(f"receiver not ready, {size}", f"rnr/{size}/{over}")
        if "latency" in parts:
            for over, aim in (("track", 1.1), ("carrier", 1.3)):
                self.row("64 B half round trip (µs), polling, beside ib_send_lat",
                         f"latency/{over}/median", "latency/ib_send_lat/median", 1, aim)  # fmt: skip
            for over in ("track", "carrier"):
                self.row("… asleep, mean, beside ib_send_lat -e",
                         f"asleep/{over}/mean", "asleep/ib_send_lat -e/mean", 1)  # fmt: skip
        if "throughput" in parts:
            for over in ("track", "carrier"):
                self.row("64 KiB throughput (MiB/s), beside ib_send_bw",
                         f"throughput/{over}", "throughput/ib_send_bw", 1, -0.9)  # fmt: skip
        if "cpu" in parts:
            for over in ("track", "carrier"):
                self.row("CPU time per 64 B message, both ends (µs), beside post_poll.c",
                         f"cpu/{over}", "cpu/post_poll.c", 2)  # fmt: skip
        if "large" in parts:
            for size in LONG:
                for over in ("segments", "lent"):
                    aim = -0.95 if size >= 1024 else None
                    self.row(f"{size:,} KiB messages (MiB/s), beside ib_send_bw",
                             f"large {size}/{over}", f"large {size}/ib_send_bw", 1, aim)  # fmt: skip
        if "datagrams" in parts:
            for over in ("track", "port"):
                self.row("64 B datagram, half round trip (µs), polling, beside ib_send_lat -c UD",
                         f"datagrams/{over}/median", "datagrams/ib_send_lat -c UD/median", 1, 1.1)  # fmt: skip
        if "read" in parts:
            self.row("64 B read (µs), polling, beside ib_read_lat",
                     "read latency/track/median", "read latency/ib_read_lat/median", 1, 1.1)  # fmt: skip
            self.row("64 KiB reads (MiB/s), beside ib_read_bw", "read/track", "read/ib_read_bw", 1, -0.9)
        if "write" in parts:
            self.row("64 KiB writes (MiB/s), beside ib_write_bw", "write/track", "write/ib_write_bw", 1, -0.9)
        if "atomics" in parts:
            self.row("additions (1000/s), beside ib_atomic_bw", "atomics/track", "atomics/ib_atomic_bw", 2, -0.9)
        if "shared" in parts:
            for tracks in TRACKS:
                name = f"shared {tracks}"
                self.row(f"64 B messages over {tracks} (1000/s), beside ib_send_bw",
                         f"{name}/shared", f"{name}/ib_send_bw", 2, -0.9)  # fmt: skip
                self.row("… beside ib_send_bw --use-srq",
                         f"{name}/shared", f"{name}/ib_send_bw --use-srq", 2, -0.9)  # fmt: skip
                self.row("… queues of their own, beside ib_send_bw",
                         f"{name}/track", f"{name}/ib_send_bw", 2)  # fmt: skip

        columns = ("what", "who", "measured", "beside", "ratio", "aim")
        table = [dict(zip(columns, ("", "", "median (spread)", "median (spread)", "ratio", "aim"))), *self.lines]
        width = {column: max(len(line[column]) for line in table) for column in columns}
        for line in table:
            print("  ".join(line[column].ljust(width[column]) for column in columns).rstrip())
        if "packets" in parts:
            print("A carrier's header makes the 16 full packets of 64 KiB (at an MTU of 4096) 17.")


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


def sane(numbers):
    if not all(math.isfinite(number) and number > 0 for number in numbers):
        raise Uncalibrated(f"perftest measured {numbers}")


def mebibytes(client, length=65536):
    """Of messages or operations of this length, in MiB/s."""
    return client["messages"] * length / (1 << 20) / (client["elapsed_ns"] / 1e9)


def rate(client):
    """In thousands a second."""
    return client["messages"] / (client["elapsed_ns"] / 1e6)


def last_json(printed):
    for line in reversed(printed.splitlines()):
        if line.startswith("{"):
            return json.loads(line)
    raise Failed(f"no result in:\n{printed}")


def say(text):
    print(text, file=sys.stderr, flush=True)


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
    bench.tell([part for part in parts if part not in failed])
    if results := os.environ.get("TRESPASS_RESULTS"):
        report = {"machine": machine, "cpus": os.cpu_count(), "quick": args.quick,
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
