"""Calls of examples/rpc: a round trip beside two messages of perftest, and how many a second beside gRPC over TCP between the same
addresses."""

from ends import last_json

# Round trips, and calls with so many under way on one connection.
TRIPS, CALLS, UNDER_WAY = 3000, 40000, 64
# gRPC is as fast as the better of these lets it be: threads of its runtime.
THREADS = (1, 2)


class Calls:
    """Parts of a bench: each is measured, and told."""

    def rpc(self):
        trips, calls = self.few(TRIPS), self.few(CALLS)
        subjects = {
            "rpc trip/calls": lambda: self.trip("rpc", trips),
            "rpc trip/gRPC": lambda: self.trip("grpc", trips),
            "rpc trip/twice ib_send_lat": lambda: 2 * self.ib_send_lat(64, trips)["median"],
            "rpc rate/calls": lambda: self.calls_a_second("rpc", calls),
        }
        for threads in THREADS:
            # It takes longer for each.
            subjects[f"rpc rate/gRPC {threads}"] = lambda threads=threads: self.calls_a_second(
                "grpc", calls // 4, threads=threads
            )
        # `ib_send_lat` tells half of a round trip, so twice that is one of the same device.
        self.alternate(self.rounds(), subjects)

    def trip(self, over, count):
        return self.called(over, "roundtrip", count, warmup=max(count // 10, 1))["median_ns"] / 1000

    def calls_a_second(self, over, count, **settings):
        seen = self.called(over, "rate", count, under_way=UNDER_WAY, warmup=max(count // 10, UNDER_WAY), **settings)
        return seen["calls"] / (seen["elapsed_ns"] / 1e6)

    def called(self, over, work, count, **settings):
        port = self.next_port()
        words = [f"{key.replace('_', '-')}={value}" for key, value in settings.items()]

        def end(side, local):
            return [self.programs / "rpc", side, over, work, f"local={local}",
                    f"peer={self.server.address}:{port}", f"count={count}", *words]  # fmt: skip

        printed = self.pair(
            end("server", self.server.address), end("client", self.client.address), self.said("listening")
        )
        return last_json(printed[0])

    def tell_rpc(self):
        self.row("64 B call there and back (µs), polling, beside twice ib_send_lat",
                 "rpc trip/calls", "rpc trip/twice ib_send_lat", 1, 1.25)  # fmt: skip
        self.row("… beside gRPC", "rpc trip/calls", "rpc trip/gRPC", 1)
        best = self.best(max, [f"rpc rate/gRPC {threads}" for threads in THREADS])
        self.row(f"64 B calls, {UNDER_WAY} under way (1000/s), beside gRPC", "rpc rate/calls", best, 2, -3)
