# SPDX-License-Identifier: Apache-2.0
"""The figures as text: a line for each row while it is measured, and the rows against their bars."""

HOG_SHARE = 0.9  # of what the hogs have beside the kernel's sockets
CPU_BAR = 1.0


def number(value):
    if value >= 100:
        return "%.0f" % value
    return "%.3g" % value


def grouped(value):
    return "{:,.0f}".format(value) if value >= 1000 else number(value)


def figure(result, side):
    """Rate or time of one side, with its median and 99th percentile where the program reports them."""
    one = result[side]
    if result["kind"] == "memory":
        return "%s KiB" % number(one["value"])
    if result["kind"] in ("latency", "flat"):
        text = "%s us" % number(one["value"])
    else:
        text = "%s/s" % grouped(one["value"])
    if one["p50_us"] and one["p99_us"]:
        text += " (p50 %s, p99 %s us)" % (number(one["p50_us"]), number(one["p99_us"]))
    return text


def measured_line(result):
    if "missing" in result:
        return "%-26s not measured: %s is missing" % (result["name"], ", ".join(result["missing"]))
    if "failed" in result:
        return "%-26s FAILED: %s" % (result["name"], result["failed"])
    unit = " KiB more" if result["kind"] == "memory" else " x"
    text = "%-26s kernel %s, shim %s: %s%s" % (result["name"], figure(result, "kernel"),
                                             figure(result, "shim"), number(result["ratio"]), unit)
    if "cpu_ratio" in result:
        text += "; CPU %s, %s us each: %s x" % (number(result["kernel"]["cpu_us_per_unit"]),
                                               number(result["shim"]["cpu_us_per_unit"]),
                                               number(result["cpu_ratio"]))
    if "hog_ratio" in result:
        text += "; hogs %s, %s cores" % (number(result["kernel"]["hog_cores"]),
                                        number(result["shim"]["hog_cores"]))
    return text + "; accelerated: " + result["accelerated_text"]


def flatness(result, results, reference):
    """Round trip among idle connections against that of the reference row, with the shim."""
    base = [other for other in results if other["name"] == reference and "shim" in other]
    return result["shim"]["value"] / base[0]["shim"]["value"] if base else None


def judged(result, results, reference):
    """(bar, aim, measured, met) of a row as text; met is yes, no, or why there is no verdict."""
    unit = " KiB" if result["kind"] == "memory" else " x"
    at_most = result["kind"] in ("memory", "flat")
    bar = ("<= " if at_most else ">= ") + number(result["bar"]) + unit
    aim = number(result["aim"]) + unit if result["aim"] else "-"
    if "shim" not in result:
        return bar, aim, "-", "failed" if "failed" in result else "not measured"
    value = result["ratio"]
    if result["kind"] == "flat":
        value = flatness(result, results, reference)
        if value is None:
            return bar, aim, "-", "not measured"
    met = value <= result["bar"] if at_most else value >= result["bar"]
    measured = number(value) + unit
    if "hog_ratio" in result:
        measured += ", hogs keep %.0f %%" % (100 * result["hog_ratio"])
        met = met and result["hog_ratio"] >= HOG_SHARE
    if result["must_accelerate"] and not result["accelerated"]["enough"]:
        measured += " (accelerated: %s)" % result["accelerated_text"]
        met = False
    if result["awake"]:
        return "-", "-", measured, "-"
    return bar, aim, measured, "yes" if met else "no"


def cpu_judged(result):
    if "cpu_ratio" not in result:
        return "-", "-"
    met = "-" if result["awake"] else "yes" if result["cpu_ratio"] <= CPU_BAR else "no"
    return number(result["cpu_ratio"]) + " x", met


def table(results, reference):
    heads = ("row", "at least", "aim", "measured", "met", "CPU each", "met")
    lines, counts = [heads], {"yes": 0, "no": 0, "failed": 0, "not measured": 0, "-": 0}
    cpu = {"yes": 0, "no": 0, "-": 0}
    for result in results:
        bar, aim, measured, met = judged(result, results, reference)
        cpu_ratio, cpu_met = cpu_judged(result)
        counts[met] += 1
        cpu[cpu_met] += 1
        lines.append((result["title"], bar, aim, measured, met, cpu_ratio, cpu_met))
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    text = "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
                     for line in lines)
    return text + ("\n\n%d met, %d not met, %d failed, %d not measured\nCPU per unit of work, at most the "
                   "kernel's: %d met, %d not met\n" % (counts["yes"], counts["no"], counts["failed"],
                                                       counts["not measured"], cpu["yes"], cpu["no"]))
