"""Look-ups in a table by READs: beside READs of the same length, of perftest."""

from ends import TX_DEPTH, rate, sane, say

# What one READ fetches: a bucket of one short entry, and one of the key-value store's, of four entries of 160 bytes.
BUCKETS = ((64, 1), (648, 4))


class Gets:
    """A part of a bench: it is measured, and told."""

    def get(self):
        few, many = (500, 2000) if self.quick else (5000, 20000)
        for size, ways in BUCKETS:
            say(f"  {size} B")

            def look_up(count, under_way, size=size, ways=ways):
                client, *_ = self.ours("track", "get", count, wait="polling", size=size, ways=ways, warmup=count // 10,
                                       send_slots=TX_DEPTH, under_way=under_way)  # fmt: skip
                # How many the connection can have under way is known by asking it.
                self.fetches = client["fetch_slots"]
                return client

            def latency():
                client = look_up(few, 1)
                return {"median": client["median_ns"] / 1000, "mean": client["elapsed_ns"] / few / 1000}

            def latency_beside(size=size):
                # A read is there and back; unlike that of sends, this is the whole of it.
                row = self.perftest("ib_read_lat", few, size)
                sane(row[4:6])
                return {"median": row[4], "mean": row[5]}

            def rate_beside(size=size):
                return self.rate_of("ib_read_bw", many, size, *self.outstanding())

            self.alternate(self.rounds(), {
                f"get {size} latency/table": latency,
                f"get {size} latency/ib_read_lat": latency_beside,
                f"get {size}/table": lambda: rate(look_up(many, TX_DEPTH)),
                f"get {size}/ib_read_bw": rate_beside,
            })  # fmt: skip

    # --- telling

    def tell_get(self):
        for size, _ in BUCKETS:
            self.row(f"get by one READ of {size} B (µs), polling, beside ib_read_lat",
                     f"get {size} latency/table/median", f"get {size} latency/ib_read_lat/median", 1, 1.15)  # fmt: skip
            self.row("… many at once (1000/s), beside ib_read_bw",
                     f"get {size}/table", f"get {size}/ib_read_bw", 2, -0.87)  # fmt: skip
