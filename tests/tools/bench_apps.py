# SPDX-License-Identifier: Apache-2.0
"""Figures that are read wrongly, or rows that pass without being accelerated, must not go unseen."""

import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts"))

from benchapps import accelerated, loads, report, wrk  # noqa: E402
from benchapps.rows import every, memcached, postgres, qperf, redis, sockperf  # noqa: E402
from benchapps.servers import Failed  # noqa: E402

WRK = """Running 1s test @ http://127.0.0.1:1/1k
  Latency Distribution
     50%    1.50ms
     99%   12.00us
  2000 requests in 1.10s, 2.00MB read
Requests/sec:   1818.18
"""
SOCKPERF = """sockperf: [Total Run] RunTime=1.000 sec; Warm up time=400 msec; SentMessages=101; ReceivedMessages=100
sockperf: # dropped messages = %d; # duplicated messages = 0; # out-of-order messages = 0
sockperf: Summary: Round trip is 27.994 usec
"""
PGBENCH = """number of transactions actually processed: 500
number of failed transactions: %d (0.000%%)
latency average = 0.125 ms
tps = 8000.5 (without initial connection time)
"""


class Readers(unittest.TestCase):
    def test_redis(self):
        text = '"test","rps","a","m","p50","p95","p99","x"\n"GET","2000.50","1","1","0.5","1","1.5","9"\n'
        figure = redis.read(text, ["redis-benchmark", "-n", "4000"])
        self.assertEqual((4000, 2000.5, 500, 1500),
                         (figure.units, figure.rate, figure.latency_us, figure.p99_us))
        self.assertRaises(Failed, redis.read, "Could not connect", ["-n", "1"])

    def test_memcached(self):
        figure = memcached.read("Time to get     100000 keys by   50 threads:     2.500 seconds.", None)
        self.assertEqual((100000, 40000), (figure.units, figure.rate))

    def test_wrk(self):
        figure = wrk.read(1024)(WRK, None)
        self.assertEqual((2000, 1818.18, 1500, 12),
                         (figure.units, figure.rate, figure.latency_us, figure.p99_us))

    def test_wrk_that_went_wrong(self):
        read = wrk.read(1024)
        self.assertRaises(Failed, read, WRK + "  Non-2xx or 3xx responses: 3\n", None)
        self.assertRaises(Failed, read, WRK + "  Socket errors: connect 0, read 1\n", None)
        self.assertRaises(Failed, wrk.read(2048), WRK, None)

    def test_sockperf(self):
        figure = sockperf.read(SOCKPERF % 0, None)
        self.assertEqual((100, 27.994), (figure.units, figure.latency_us))
        self.assertRaises(Failed, sockperf.read, SOCKPERF % 1, None)

    def test_qperf(self):
        figure = qperf.read("    latency         =  12005 ns\n    loc_send_msgs   =  41651 \n", None)
        self.assertEqual(41651, figure.units)
        self.assertAlmostEqual(24.01, figure.latency_us)

    def test_pgbench(self):
        figure = postgres.read(PGBENCH % 0, None)
        self.assertEqual((500, 8000.5, 125), (figure.units, figure.rate, figure.latency_us))
        self.assertRaises(Failed, postgres.read, PGBENCH % 1, None)

    def test_several_of_ours(self):
        figure = loads.combine([{"units": 10, "seconds": 1, "p50_us": 2, "p99_us": 3},
                                {"units": 30, "seconds": 2, "p50_us": 4, "p99_us": 9}])
        self.assertEqual((40, 20, 3, 9), (figure.units, figure.rate, figure.latency_us, figure.p99_us))


def result(**more):
    side = {"value": 1, "cpu_us_per_unit": 1}
    return {"name": "row", "title": "row", "kind": "rate", "bar": 2, "aim": None, "awake": False,
            "must_accelerate": True, "ratio": 3, "cpu_ratio": 0.9, "kernel": side, "shim": side,
            "accelerated": {"enough": True}, "accelerated_text": "all", **more}


def verdict(**more):
    one = result(**more)
    return report.judged(one, [one], "reference")[3]


class Verdicts(unittest.TestCase):
    def test_bar(self):
        self.assertEqual("yes", verdict())
        self.assertEqual("yes", verdict(ratio=2))
        self.assertEqual("no", verdict(ratio=1.99))

    def test_not_accelerated_is_missed(self):
        self.assertEqual("no", verdict(accelerated={"enough": False}))
        self.assertEqual("yes", verdict(accelerated={"enough": False}, must_accelerate=False))

    def test_not_measured_is_not_met(self):
        one = result(missing=["redis-server"])
        del one["shim"]
        self.assertEqual("not measured", report.judged(one, [one], "reference")[3])
        one = result(failed="crashed")
        del one["shim"]
        self.assertEqual("failed", report.judged(one, [one], "reference")[3])

    def test_memory_and_flat_are_at_most(self):
        self.assertEqual("yes", verdict(kind="memory", bar=16, ratio=15))
        self.assertEqual("no", verdict(kind="memory", bar=16, ratio=17))
        reference = result(name="reference", kind="flat", shim={"value": 10})
        for value, met in ((20, "yes"), (21, "no")):
            one = result(kind="flat", shim={"value": value})
            self.assertEqual(met, report.judged(one, [reference, one], "reference")[3])
        self.assertEqual("not measured", verdict(kind="flat"))

    def test_hogs(self):
        self.assertEqual("yes", verdict(hog_ratio=0.9))
        self.assertEqual("no", verdict(hog_ratio=0.89))

    def test_awake_is_only_reported(self):
        self.assertEqual("-", verdict(awake=True))

    def test_cpu(self):
        self.assertEqual("yes", report.cpu_judged(result(cpu_ratio=1.0))[1])
        self.assertEqual("no", report.cpu_judged(result(cpu_ratio=1.01))[1])


def end(role, state="accelerated", ring=0, kernel=0):
    counters = ("sleeps", "tokens", "spins_won", "spins_lost", "cuts", "overflow")
    return {"role": role, "state": state, "reason": "none" if state == "accelerated" else "young",
            "ring_tx": ring, "ring_rx": 0, "kernel_tx": kernel, "kernel_rx": 0,
            **{name: 0 for name in counters}}


class Seen(unittest.TestCase):
    def enough(self, *ends):
        return accelerated.Accelerated(ends).enough()

    def test_nothing(self):
        self.assertFalse(self.enough())
        self.assertFalse(self.enough(end("client"), end("server")))

    def test_both_ends(self):
        self.assertTrue(self.enough(end("client", ring=99), end("server", ring=99)))
        self.assertFalse(self.enough(end("client", ring=99)))

    def test_attached_but_by_the_kernel(self):
        self.assertFalse(self.enough(end("client", ring=1, kernel=99), end("server", ring=1, kernel=99)))

    def test_plain_ones_count_by_their_bytes(self):
        both = end("client", ring=99), end("server", ring=99)
        self.assertTrue(self.enough(*both, end("client", "candidate", kernel=5)))
        self.assertFalse(self.enough(*both, end("client", "candidate", kernel=50)))


class Patterns(unittest.TestCase):
    def test_names_differ(self):
        names = [row.name for _, row in every()]
        self.assertEqual(len(names), len(set(names)))

    def test_every_row_has_a_bar(self):
        for _, row in every():
            self.assertGreater(row.bar, 0, row.name)


unittest.main()
