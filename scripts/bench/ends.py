"""Two ends of every program that is measured: a server on the second address, and a client on the first."""

import ipaddress
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# A run that takes longer is stuck.
PATIENCE = 300
# As ib_send_bw has it: sends under way, and receives posted.
TX_DEPTH, RX_DEPTH = 128, 512
# The longest message in a segment of UCX as it is by default, and what else is in one.
UCX_SEGMENT, UCX_HEADER = 8192, 64
# Messages for one doorbell where CPU time is compared.
BATCH = 16


class Failed(Exception):
    pass


class Uncalibrated(Failed):
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


class Ends:
    """Runs both ends of a program, which get the same flags."""

    def __init__(self, programs):
        first, second = os.environ["TRESPASS_RDMA_ADDRS"].split()
        self.client, self.server = Device(first), Device(second)
        self.programs = programs
        self.port = 20000

    def pair(self, server, client, ready, by=None, settings=None):
        """Runs both ends, and returns what they printed. Of each end: `by` is a command to run it with, `settings` are
        environment variables."""
        by, settings = by or {}, settings or {}

        def command(end, words):
            return {"args": [str(word) for word in (*by.get(end, ()), *words)], "stdout": subprocess.PIPE,
                    "stderr": subprocess.STDOUT, "text": True, "env": {**os.environ, **settings.get(end, {})}}  # fmt: skip

        with subprocess.Popen(**command("server", server)) as peer:
            try:
                early = ready(peer)
                done = subprocess.run(**command("client", client), timeout=PATIENCE, check=False)
                if done.returncode:
                    raise Failed(f"{' '.join(map(str, client))} ended with {done.returncode}:\n{done.stdout}")
                late, _ = peer.communicate(timeout=PATIENCE)
                if peer.returncode:
                    raise Failed(f"{' '.join(map(str, server))} ended with {peer.returncode}:\n{early}{late}")
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
            said = ""
            # An instrument may speak first.
            while line := peer.stdout.readline():
                said += line
                if word in line:
                    return said
            raise Failed(f"the server said: {said}")

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

    def ours(self, over, work, count, by=None, **settings):
        port = self.next_port()
        words = [f"{key.replace('_', '-')}={value}" for key, value in settings.items()]

        def end(side, local):
            return [self.programs / "verbs", side, over, work, f"local={local}",
                    f"peer={self.server.address}:{port}", f"count={count}", *words]  # fmt: skip

        printed = self.pair(
            end("server", self.server.address), end("client", self.client.address), self.said("listening"), by
        )
        return (*map(last_json, printed), printed[0])

    def hand_written(self, count):
        port = self.next_port()
        rest = [self.server.address, port, 64, count, BATCH, TX_DEPTH, RX_DEPTH]
        command = [self.programs / "post_poll"]
        printed = self.pair([*command, "server", *rest], [*command, "client", *rest], self.said("listening"))
        return tuple(map(last_json, printed))

    def rc_pingpong(self, count, by=None):
        port = self.next_port()

        def end(device, *peer):
            return ["ibv_rc_pingpong", "-e", "-d", device.name, "-i", device.port, "-g", device.gid, "-s", "64",
                    "-n", str(count), "-p", str(port), *peer]  # fmt: skip

        return self.pair(end(self.server), end(self.client, self.server.address), self.listens(port), by)[0]

    def perftest(self, name, count, size, *options, queues=1, by=None):
        """The last line of its table, as numbers. `count` is for each queue pair."""
        port = self.next_port()
        # It has no other size, and no option to say so.
        sized = [] if name == "ib_atomic_bw" else ["-s", str(size)]

        def end(device, *peer):
            # -F: the frequency governor of an emulated CPU is nobody's concern.
            return [name, "-F", "-d", device.name, "-i", device.port, "-x", device.gid, *sized,
                    "-n", str(count), "-p", str(port), *options, *peer]  # fmt: skip

        printed = self.pair(end(self.server), end(self.client, self.server.address), self.listens(port), by)[0]
        rows = [line.split() for line in printed.splitlines() if re.match(rf"\s*{size}\s+{count * queues}\s", line)]
        if not rows:
            raise Failed(f"{name} printed no result:\n{printed}")
        return [float(word) for word in rows[-1]]

    def ucx(self, test, count, size, layout, depth=1, by=None):
        """The transport level of UCX over reliable connections, am_lat or am_bw: the median and mean time of a message in
        microseconds, MiB/s, and messages a second. So many sends that are not copied are under way at most."""
        port = self.next_port()
        shared = {}
        if size > UCX_SEGMENT:
            # A message is one segment. As many as UCX would have by default would take the memory of the machine.
            shared = {"UCX_RC_VERBS_SEG_SIZE": str(size + UCX_HEADER), "UCX_RC_VERBS_RX_QUEUE_LEN": "128",
                      "UCX_RC_VERBS_TX_BUFS_GROW": "16"}  # fmt: skip
        settings = {
            end: {"UCX_IB_GID_INDEX": device.gid, **shared}
            for end, device in (("server", self.server), ("client", self.client))
        }

        with tempfile.TemporaryDirectory() as folder:

            def end(device, *peer):
                # A server takes all its settings from its client, the device too, and both would be on one; but for those
                # that it reads from a file.
                batch = Path(folder) / f"{device.name}-{'client' if peer else 'server'}"
                batch.write_text(f"{test} -t {test} -x rc_verbs -d {device.name}:{device.port} -D {layout} -O {depth} "
                                 f"-s {size} -n {count} -w 16\n")  # fmt: skip
                return ["ucx_perftest", *peer, "-b", batch, "-p", port, "-f", "-v"]

            before = self.server.counters()[0]
            printed = self.pair(
                end(self.server), end(self.client, self.server.address), self.listens(port), by, settings
            )[0]
            if before is not None and self.server.counters()[0] == before:
                raise Failed(f"UCX has sent nothing by {self.server.name}")
        # Iterations; time: percentile, average, overall; MiB/s: average, overall; messages/s: average, overall.
        # An average of few is not a number (-nan).
        pattern = rf"{test},\s*\d+(,[-\w.]+){{7}}"
        rows = [line.split(",")[1:] for line in printed.splitlines() if re.fullmatch(pattern, line)]
        if not rows:
            raise Failed(f"ucx_perftest printed no result:\n{printed}")
        _, middle, _, mean, _, throughput, _, messages = map(float, rows[-1])
        return {"median": middle, "mean": mean, "throughput": throughput, "rate": messages}

    def rstream(self, turns, burst, size, *options, by=None):
        """rsockets, or with `-T s` sockets: messages there and back, in bursts. Microseconds for each."""
        port = self.next_port()
        flags = ["-p", port, "-S", size, "-C", burst, "-I", turns, *options]
        # Its first line is there when it listens; else it would keep it to itself.
        server = ["stdbuf", "--output=L", "rstream", "-b", self.server.address, *flags]
        printed = self.pair(server, ["rstream", "-s", self.server.address, *flags], self.said("usec/xfer"), by)[0]
        rows = [line.split() for line in printed.splitlines() if line.startswith("custom ")]
        if not rows:
            raise Failed(f"rstream printed no result:\n{printed}")
        return float(rows[-1][-1])


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
