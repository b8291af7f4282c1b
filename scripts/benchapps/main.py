# SPDX-License-Identifier: Apache-2.0
"""Measures the rows, says what came out, and keeps it: results.txt, results.json, results.svg."""

import dataclasses
import fnmatch
import glob
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from benchapps import background, chart, machine, options, report, rounds, rows  # noqa: E402
from benchapps.rows import idle  # noqa: E402
from benchapps.servers import Failed  # noqa: E402
from benchapps.sides import Tools  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def chosen(patterns, hogs):
    wanted = [(path, row) for path, row in rows.every()
              if not patterns or any(fnmatch.fnmatch(row.name, pattern) for pattern in patterns)]
    if not wanted:
        sys.exit("bench-apps: no row is called " + ", ".join(patterns))
    return [(path, beside(row, hogs)) for path, row in wanted] if hogs else wanted


def beside(row, hogs):
    """A machine that others keep busy: the same row, and nobody has to be kept awake."""
    return dataclasses.replace(row, hogs=row.hogs or hogs, awake=False)


def install(wanted):
    """What cannot be installed makes its rows 'not measured', no more."""
    files = sorted({path for path, _ in wanted} | {chart.__file__})
    subprocess.run([os.path.join(ROOT, "scripts", "setup"), "for", *files], check=False)


def prepare_process():
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.environ["PATH"] += ":/usr/sbin:/sbin" + "".join(
        ":" + path for path in glob.glob("/usr/lib/postgresql/*/bin"))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))


def described(row, awake):
    return {"name": row.name + ("+awake" if awake else ""),
            "title": row.title + (", cores awake" if awake else ""), "unit": row.unit,
            "kind": row.kind, "bar": row.bar, "aim": row.aim, "awake": awake,
            "must_accelerate": row.accelerated}


def measure(row, tools, chosen_options, awake):
    result = described(row, awake)
    missing = row.missing()
    if missing:
        result["missing"] = missing
        return result
    with tempfile.TemporaryDirectory(prefix="shmipc-bench-") as directory:
        os.chmod(directory, 0o755)  # a server may run as another user
        try:
            result.update(rounds.measure(row, tools, directory, chosen_options.rounds,
                                         chosen_options.seconds,
                                         background.AWAKE if awake else None))
        except Failed as failure:
            result["failed"] = str(failure)
    return result


def earlier(tools):
    path = os.path.join(tools.results, "results.json")
    if not os.path.exists(path):
        return []
    with open(path) as results:
        return json.load(results)["rows"]


def in_order(results):
    """In the order of the table, whatever the order in which they were measured."""
    names = [name for _, row in rows.every() for name in (row.name, row.name + "+awake")]
    return sorted((result for result in results if result["name"] in names),
                  key=lambda result: names.index(result["name"]))


def keep(results, tools, text, where):
    with open(os.path.join(tools.results, "results.txt"), "w") as file:
        file.write(text)
    with open(os.path.join(tools.results, "results.json"), "w") as file:
        json.dump({**where, "rows": results}, file, indent=1)
        file.write("\n")
    if not chart.draw(results, tools.results):
        print("gnuplot is missing: no chart")


def main():
    chosen_options = options.parse(sys.argv[1:])
    wanted = chosen(chosen_options.only, chosen_options.hogs)
    if chosen_options.list:
        for _, row in wanted:
            print("%-26s %s" % (row.name, row.title))
        return 0
    tools = Tools(os.path.abspath(os.environ.get("BUILD", os.path.join(ROOT, "build"))))
    if tools.missing():
        sys.exit("bench-apps: not built: " + ", ".join(tools.missing()))
    if chosen_options.hogs:
        tools.results += "-beside-hogs"
    prepare_process()
    os.makedirs(tools.results, exist_ok=True)
    results = earlier(tools) if chosen_options.add or chosen_options.report else []
    if not chosen_options.report:
        install(wanted)
        for _, row in wanted:
            for awake in (False, True) if row.awake else (False,):
                result = measure(row, tools, chosen_options, awake)
                print(report.measured_line(result), flush=True)
                results = [old for old in results if old["name"] != result["name"]] + [result]
    results = in_order(results)
    where = machine.describe()
    text = "%s\n\n%s" % (", ".join(map(str, where.values())), report.table(results, idle.REFERENCE))
    print("\n" + text, end="")
    keep(results, tools, text, where)
    return 1 if any("failed" in result for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
