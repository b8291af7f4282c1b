# SPDX-License-Identifier: Apache-2.0
# packages: gnuplot-nox:gnuplot
"""The chart: how many times the kernel each row is, and what a unit of work costs in CPU."""

import os
import shutil
import subprocess

SCRIPT = """
set terminal svg size 900,{height} font "sans-serif,11" background rgb "white"
set output "{svg}"
set title "Real programs: shim against the kernel's sockets"
set logscale x 10
set lmargin at screen 0.42
set rmargin at screen 0.97
set xtics (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200)
set xrange [{low}:{high}]
set yrange [{bottom}:0.4]
set xlabel "times the kernel (for CPU, less is better)"
set grid xtics lc rgb "#dddddd"
set arrow 1 from 1,{bottom} to 1,0.4 nohead lc rgb "black" lw 1.5
set key outside top center horizontal
set ytics ({labels}) font ",10"
set bars 0
plot "{data}" using 3:(-$1+0.17):(1):3:(-$1+0.02):(-$1+0.32) with boxxyerror fs solid noborder \\
         lc rgb "#2b7bba" title "speed", \\
     "{data}" using 4:(-$1-0.17):(1):4:(-$1-0.32):(-$1-0.02) with boxxyerror fs solid noborder \\
         lc rgb "#e08214" title "CPU for each unit of work", \\
     "{data}" using 2:(-$1+0.17):(0):(0.3) with vectors nohead lc rgb "black" lw 2 title "bar"
"""


def draw(results, directory):
    """False where the plotting tool is missing."""
    shown = [result for result in results if "cpu_ratio" in result and result["kind"] != "flat"]
    if not shown or not shutil.which("gnuplot"):
        return False
    data, script = os.path.join(directory, "chart.dat"), os.path.join(directory, "chart.gp")
    values = [value for result in shown for value in (result["ratio"], result["cpu_ratio"])]
    with open(data, "w") as table:
        for place, result in enumerate(shown):
            bar = "nan" if result["awake"] else result["bar"]
            table.write("%d %s %.4f %.4f\n" % (place, bar, result["ratio"], result["cpu_ratio"]))
    with open(script, "w") as text:
        text.write(SCRIPT.format(
            height=120 + 26 * len(shown), svg=os.path.join(directory, "results.svg"), data=data,
            low=min(values + [0.5]) * 0.8, high=max(values + [2]) * 1.3, bottom=-len(shown) + 0.4,
            labels=", ".join('"%s" %d' % (result["title"].replace('"', ""), -place)
                             for place, result in enumerate(shown))))
    subprocess.run(["gnuplot", script], check=True)
    return True
