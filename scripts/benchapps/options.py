# SPDX-License-Identifier: Apache-2.0
import argparse


def parse(argv):
    parser = argparse.ArgumentParser(
        prog="bench-apps", description="Real programs: the kernel's sockets against the shim.")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--only", action="append", default=[], metavar="PATTERN",
                        help="rows by name, with * and ?; may be repeated, or a list with commas")
    parser.add_argument("--rounds", type=int, help="rounds of each side (5, quick: 3)")
    parser.add_argument("--seconds", type=float, help="length of a load (1, quick: 0.4)")
    parser.add_argument("--hogs", type=int, default=0, metavar="N",
                        help="every row beside N busy processes on each core")
    parser.add_argument("--add", action="store_true",
                        help="keep the rows of an earlier run that are not measured now")
    parser.add_argument("--list", action="store_true", help="the names of all rows")
    parser.add_argument("--report", action="store_true", help="only show what was measured before")
    options = parser.parse_args(argv)
    options.rounds = options.rounds or (3 if options.quick else 5)
    options.seconds = options.seconds or (0.4 if options.quick else 1.0)
    if options.rounds < 1 or options.seconds <= 0 or options.hogs < 0:
        parser.error("rounds and seconds are positive, hogs not negative")
    options.only = [part for pattern in options.only for part in pattern.split(",") if part]
    return options
