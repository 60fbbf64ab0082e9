"""Carriers, beside what one would take instead: perftest and UCX for messages, rsockets and TCP for bytes."""

from pathlib import Path

from ends import RX_DEPTH, TX_DEPTH, mebibytes, rate, sane, say

SIZES = {64: "64 B", 4096: "4 KiB", 65536: "64 KiB", 1 << 20: "1 MiB"}
# From here on a message of a carrier as it is by default takes several slots, and may be lent.
LONG = 65536
# How UCX may send best what is so long (`-D`): inside the work request, copied, or not.
LAYOUTS = {64: ("short", "bcopy"), 4096: ("bcopy", "zcopy"), 65536: ("zcopy",), 1 << 20: ("zcopy",)}
# Messages or turns of each size: for latency, for throughput one way, and for bursts there and back (turns, messages).
TURNS = {64: 3000, 4096: 2000, 65536: 300, 1 << 20: 30}
POURED = {64: 20000, 4096: 8000, 65536: 600, 1 << 20: 50}
BURSTS = {64: (4, 2000), 4096: (4, 500), 65536: (4, 50), 1 << 20: (4, 5)}


class Carriers:
    """Parts of a bench: each is measured, and told. Fewer rounds than of others, for there are many subjects."""

    def turns(self):
        return 3 if self.quick else 5

    def few(self, count):
        return max(count // 5, 10) if self.quick else count

    # --- messages

    def messages(self):
        for size, name in SIZES.items():
            say(f"  {name}")
            count, many = self.few(TURNS[size]), self.few(POURED[size])
            subjects = {}
            for over in over_messages(size):
                subjects[f"messages {size} latency/{over}"] = lambda over=over: self.half_trip(over, size, count)
                subjects[f"messages {size}/{over}"] = lambda over=over: self.poured(over, size, many)
            subjects |= {
                f"messages {size} latency/ib_send_lat": lambda: self.ib_send_lat(size, count),
                f"messages {size}/ib_send_bw": lambda: self.ib_send_bw(size, many),
            }
            for layout in LAYOUTS[size]:
                subjects |= {
                    f"messages {size} latency/UCX {layout}": lambda layout=layout: self.ucx_lat(size, count, layout),
                    f"messages {size}/UCX {layout}": lambda layout=layout: self.ucx_bw(size, many, layout),
                }
            self.alternate(self.turns(), subjects)

    def half_trip(self, over, size, count):
        client, *_ = self.ours(over, "pingpong", count, wait="polling", size=size, warmup=max(count // 10, 1))
        return {"median": client["median_ns"] / 2000, "mean": client["elapsed_ns"] / count / 2000}

    def poured(self, over, size, count, by=None):
        # As many to warm up however many are counted, so that a difference has none of them.
        client, *_ = self.ours(over, "stream", count, by, wait="polling", size=size, warmup=16, **slots(over, size))
        return rate(client) if size == 64 else mebibytes(client, size)

    def ib_send_lat(self, size, count):
        row = self.perftest("ib_send_lat", count, size)
        sane(row[4:6])
        return {"median": row[4], "mean": row[5]}

    def ib_send_bw(self, size, count):
        row = self.ib_sends(size, count)
        sane(row[3:5])
        return row[4] * 1000 if size == 64 else row[3]

    def ib_sends(self, size, count, by=None):
        sends, receives = depths(size)
        return self.perftest("ib_send_bw", count, size, "-t", str(sends), "-r", str(receives), by=by)

    def ucx_lat(self, size, count, layout):
        seen = self.ucx("am_lat", count, size, layout)
        return {"median": seen["median"], "mean": seen["mean"]}

    def ucx_bw(self, size, count, layout, by=None):
        seen = self.ucx("am_bw", count, size, layout, depths(size)[0], by)
        return seen["rate"] / 1000 if size == 64 else seen["throughput"]

    def tell_messages(self):
        for size, name in SIZES.items():
            ucx = self.best(min, [f"messages {size} latency/UCX {layout}/median" for layout in LAYOUTS[size]])
            for over in over_messages(size):
                for beside, aim in ((f"messages {size} latency/ib_send_lat/median", 1.1), (ucx, 1)):
                    self.row(f"{name} message, half round trip (µs), polling, beside {beside.split('/')[1]}",
                             f"messages {size} latency/{over}/median", beside, 1, aim)  # fmt: skip
        for size, name in SIZES.items():
            unit, digits = ("1000/s", 2) if size == 64 else ("MiB/s", 1)
            ucx = self.best(max, [f"messages {size}/UCX {layout}" for layout in LAYOUTS[size]])
            for over in over_messages(size):
                for beside, aim in ((f"messages {size}/ib_send_bw", -0.95 if size == 1 << 20 else None), (ucx, -1)):
                    self.row(f"{name} messages one way ({unit}), beside {beside.split('/')[1]}",
                             f"messages {size}/{over}", beside, digits, aim)  # fmt: skip

    def best(self, of, names):
        """Of those that were measured; the first of them if none was."""
        measured = {name: value for name in names if (value := self.median(name)) is not None}
        return of(measured, key=measured.get) if measured else names[0]

    # --- streams

    def streams(self):
        for size, name in SIZES.items():
            say(f"  {name}")
            count = self.few(TURNS[size])
            turns, burst = BURSTS[size]
            burst = self.few(burst) if burst > 10 else burst
            self.alternate(self.turns(), {
                f"streams {size} latency/bytes": lambda: self.bytes(size, count, 1),
                f"streams {size} latency/rsockets": lambda: self.rstream(count, 1, size),
                f"streams {size} latency/TCP": lambda: self.rstream(count, 1, size, "-T", "s"),
                f"streams {size}/bytes": lambda: flow(size, self.bytes(size, turns, burst)),
                f"streams {size}/rsockets": lambda: flow(size, self.rstream(turns, burst, size)),
                f"streams {size}/TCP": lambda: flow(size, self.rstream(turns, burst, size, "-T", "s")),
            })  # fmt: skip
        say("  64 B, asleep")
        count = self.few(TURNS[64])
        self.alternate(self.turns(), {
            "streams asleep/bytes": lambda: self.bytes_asleep(count),
            "streams asleep/rsockets": lambda: self.rstream(count, 1, 64, "-T", "b"),
            "streams asleep/TCP": lambda: self.rstream(count, 1, 64, "-T", "s", "-T", "b"),
        })  # fmt: skip

    def bytes(self, size, turns, burst, by=None):
        """As rstream has it: bursts there and back, from the first on, in microseconds for each message."""
        client, *_ = self.ours("bytes", "bursts", turns, by, wait="polling", size=size, burst=burst, warmup=0)
        return client["elapsed_ns"] / client["messages"] / 1000

    def bytes_asleep(self, count):
        client, *_ = self.ours("bytes", "pingpong", count, wait="events", size=64, warmup=0)
        return client["elapsed_ns"] / count / 2000

    def tell_streams(self):
        for size, name in SIZES.items():
            for beside in ("rsockets", "TCP"):
                self.row(f"{name} in a stream, half round trip (µs), polling, beside {beside}",
                         f"streams {size} latency/bytes", f"streams {size} latency/{beside}", 1, 1)  # fmt: skip
        for beside in ("rsockets", "TCP"):
            self.row(f"64 B in a stream, half round trip (µs), asleep, beside {beside}",
                     "streams asleep/bytes", f"streams asleep/{beside}", 1, 1)  # fmt: skip
        for size, name in SIZES.items():
            unit, digits = ("1000/s", 2) if size == 64 else ("MiB/s", 1)
            # The kernel's TCP needs no packet of 4 KiB to pass between two drivers, and soft-RoCE does: no aim.
            for beside, aim in (("rsockets", -1), ("TCP", None)):
                self.row(f"{name} writes there and back ({unit}), beside {beside}",
                         f"streams {size}/bytes", f"streams {size}/{beside}", digits, aim)  # fmt: skip

    # --- costs

    def costs(self):
        for size, name in SIZES.items():
            say(f"  packets, {name}")
            few = max(POURED[size] // 20, 20)
            self.costs_in_packets(size, (few, 2 * few))
        say("  instructions, 64 B")
        counts = (500, 1500) if self.quick else (1000, 5000)
        programs = {
            "carrier": lambda n, by: self.poured("carrier", 64, n, by),
            "ib_send_bw": lambda n, by: self.ib_sends(64, n, by),
            "UCX": lambda n, by: self.ucx_bw(64, n, LAYOUTS[64][0], by),
        }
        for who, run in programs.items():
            for end in ("client", "server"):
                say(f"  {who}, {end}")
                self.note(f"instructions {end}/{who}", self.per_message(run, counts, end)["count"])
        both_ways = {
            "bytes": lambda n, by: self.bytes(64, 1, n, by),
            "rsockets": lambda n, by: self.rstream(1, n, 64, by=by),
            "TCP": lambda n, by: self.rstream(1, n, 64, "-T", "s", by=by),
        }
        for who, run in both_ways.items():
            say(f"  {who}")
            self.note(f"instructions/{who}", self.per_message(run, counts)["count"])

    def costs_in_packets(self, size, counts):
        for over in over_messages(size):
            self.counted(f"messages {size}/{over}", 1, lambda n: self.poured(over, size, n), counts)
        self.counted(f"messages {size}/ib_send_bw", 1, lambda n: self.ib_sends(size, n), counts)
        self.counted(f"messages {size}/UCX", 1, lambda n: self.ucx_bw(size, n, LAYOUTS[size][-1]), counts)
        # Bursts, there and back.
        self.counted(f"streams {size}/bytes", 2, lambda n: self.bytes(size, 1, n), counts)
        self.counted(f"streams {size}/rsockets", 2, lambda n: self.rstream(1, n, size), counts)
        before, more = tcp_segments(), []
        for count in counts:
            self.rstream(1, count, size, "-T", "s")
            more.append(tcp_segments() - before)
            before += more[-1]
        self.note(f"packets/streams {size}/TCP", (more[1] - more[0]) / (counts[1] - counts[0]) / 2)

    def tell_costs(self):
        for size, name in SIZES.items():
            for over in over_messages(size):
                for beside in ("ib_send_bw", "UCX"):
                    self.row(f"packets per {name} message, beside {beside}",
                             f"packets/messages {size}/{over}", f"packets/messages {size}/{beside}", 2)  # fmt: skip
        for size, name in SIZES.items():
            for beside in ("rsockets", "TCP"):
                self.row(f"packets per {name} of a stream, beside {beside}",
                         f"packets/streams {size}/bytes", f"packets/streams {size}/{beside}", 2)  # fmt: skip
        for end, does in (("client", "send"), ("server", "receive")):
            for beside in ("ib_send_bw", "UCX"):
                self.row(f"instructions to {does} a 64 B message, beside {beside}",
                         f"instructions {end}/carrier", f"instructions {end}/{beside}", 0)  # fmt: skip
        for beside in ("rsockets", "TCP"):
            self.row(f"instructions to write and read 64 B, beside {beside}",
                     "instructions/bytes", f"instructions/{beside}", 0)  # fmt: skip


def over_messages(size):
    """How a carrier may have messages of this size: whole in one slot; and long ones as it is by default, in segments, or
    lent."""
    return ("carrier",) if size < LONG else ("carrier", "segments", "lent")


def depths(size):
    """Sends and receives at a time: what is as long as 1 MiB would take too much memory."""
    return (TX_DEPTH, RX_DEPTH) if size <= LONG else (16, 64)


def slots(over, size):
    """Of the track: as many as the others have where a message is a slot; else as it is by default."""
    if over != "carrier":
        return {}
    sends, receives = depths(size)
    return {"send_slots": sends, "recv_slots": receives}


def flow(size, microseconds):
    """What goes through when each message takes that long."""
    return 1000 / microseconds if size == 64 else size / (1 << 20) / microseconds * 1e6


def tcp_segments():
    """How many the kernel has sent, as they are on a wire."""
    tcp = [line.split()[1:] for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Tcp:")]
    return int(dict(zip(*tcp))["OutSegs"])
