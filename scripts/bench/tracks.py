"""Tracks, and messages of the carrier: beside the programs that come with libibverbs and perftest."""

from ends import BATCH, RX_DEPTH, TX_DEPTH, mebibytes, rate, sane, say

# How many tracks share their queues, and the sends and receives of each: fewer than of one alone, so that the
# completion queues of all fit the device. perftest makes one of as many completions as connections times its receives.
TRACKS = (1, 16, 64)
SHARED_TX, SHARED_RX = 32, 128
COMPLETIONS = 32_000

# Lengths of long messages, in KiB: around where lending them begins to pay, and far above.
LONG = (16, 32, 64, 256, 1024)


class Tracks:
    """Parts of a bench: each is measured, and told."""

    def instructions(self):
        short, long = (500, 1000) if self.quick else (1000, 3000)
        rounds = 1 if self.quick else 3

        def per_round_trip(run):
            return self.per_message(run, (short, long))

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
            self.counted(f"64 B/{over}", 2, lambda n, over=over: self.ours(over, "pingpong", n), counts)
            self.counted(f"64 KiB/{over}", 1, lambda n, over=over: self.stream(over, n), counts)
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

    # --- telling

    def tell_instructions(self):
        for over, aim in (("track", 1.1), ("carrier", 1.5)):
            self.row("instructions per 64 B round trip, beside ibv_rc_pingpong -e",
                     f"instructions/{over}/count", "instructions/ibv_rc_pingpong -e/count", 0, aim)  # fmt: skip
        for over in ("track", "carrier"):
            # What a round trip costs depends on whether the answer was there before one asked to be woken.
            self.row("… notifications asked for in it",
                     f"instructions/{over}/arms", "instructions/ibv_rc_pingpong -e/arms", 2)  # fmt: skip

    def tell_packets(self):
        for size, peer in (("64 B", "ib_send_lat"), ("64 KiB", "ib_send_bw")):
            for over in ("track", "carrier"):
                # A slow machine sends one or the other again. A carrier's header makes the 16 full packets of 64 KiB (at
                # an MTU of 4096) 17.
                self.row(f"packets per {size} message, beside {peer}",
                         f"packets/{size}/{over}", f"packets/{size}/{peer}", 2, 1.01)  # fmt: skip
        for size in ("64 B", "64 KiB"):
            for over in ("track", "carrier"):
                self.zero_row(f"receiver not ready, {size}", f"rnr/{size}/{over}")

    def tell_latency(self):
        for over, aim in (("track", 1.1), ("carrier", 1.3)):
            self.row("64 B half round trip (µs), polling, beside ib_send_lat",
                     f"latency/{over}/median", "latency/ib_send_lat/median", 1, aim)  # fmt: skip
        for over in ("track", "carrier"):
            self.row("… asleep, mean, beside ib_send_lat -e",
                     f"asleep/{over}/mean", "asleep/ib_send_lat -e/mean", 1)  # fmt: skip

    def tell_throughput(self):
        for over in ("track", "carrier"):
            self.row("64 KiB throughput (MiB/s), beside ib_send_bw",
                     f"throughput/{over}", "throughput/ib_send_bw", 1, -0.9)  # fmt: skip

    def tell_cpu(self):
        for over in ("track", "carrier"):
            self.row("CPU time per 64 B message, both ends (µs), beside post_poll.c",
                     f"cpu/{over}", "cpu/post_poll.c", 2)  # fmt: skip

    def tell_large(self):
        for size in LONG:
            for over in ("segments", "lent"):
                aim = -0.95 if size >= 1024 else None
                self.row(f"{size:,} KiB messages (MiB/s), beside ib_send_bw",
                         f"large {size}/{over}", f"large {size}/ib_send_bw", 1, aim)  # fmt: skip

    def tell_datagrams(self):
        for over in ("track", "port"):
            self.row("64 B datagram, half round trip (µs), polling, beside ib_send_lat -c UD",
                     f"datagrams/{over}/median", "datagrams/ib_send_lat -c UD/median", 1, 1.1)  # fmt: skip

    def tell_read(self):
        self.row("64 B read (µs), polling, beside ib_read_lat",
                 "read latency/track/median", "read latency/ib_read_lat/median", 1, 1.1)  # fmt: skip
        self.row("64 KiB reads (MiB/s), beside ib_read_bw", "read/track", "read/ib_read_bw", 1, -0.9)

    def tell_write(self):
        self.row("64 KiB writes (MiB/s), beside ib_write_bw", "write/track", "write/ib_write_bw", 1, -0.9)

    def tell_atomics(self):
        self.row("additions (1000/s), beside ib_atomic_bw", "atomics/track", "atomics/ib_atomic_bw", 2, -0.9)

    def tell_shared(self):
        for tracks in TRACKS:
            name = f"shared {tracks}"
            self.row(f"64 B messages over {tracks} (1000/s), beside ib_send_bw",
                     f"{name}/shared", f"{name}/ib_send_bw", 2, -0.9)  # fmt: skip
            self.row("… beside ib_send_bw --use-srq",
                     f"{name}/shared", f"{name}/ib_send_bw --use-srq", 2, -0.9)  # fmt: skip
            self.row("… queues of their own, beside ib_send_bw",
                     f"{name}/track", f"{name}/ib_send_bw", 2)  # fmt: skip
