# SPDX-License-Identifier: Apache-2.0
"""A row of the table: what is started, what load runs, what counts, and the bar for it."""

import dataclasses
import shutil
import typing

from benchapps import loads


@dataclasses.dataclass
class Row:
    name: str
    title: str
    unit: str  # of work: what the CPU seconds are divided by
    bar: float  # at least so many times as fast as the kernel; of kind "memory" at most so many KiB
    aim: typing.Optional[float]
    serve: typing.Callable  # place -> list of Server
    load: typing.Callable  # place, seconds -> argv; for run_ours a list of them
    read: typing.Callable = None  # what the load printed, its argv -> Figure
    run: typing.Callable = loads.run_program
    kind: str = "rate"  # or "latency", "memory", "flat"
    programs: tuple = ()
    accelerated: bool = True  # whether it has to be
    awake: bool = False  # a latency row: once more with the cores kept awake
    hogs: int = 0  # on each core
    rounds: int = 0  # 0: as many as asked for
    least_seconds: float = 0.0  # for programs that count whole seconds
    look_after: float = 0.5  # of its seconds

    def missing(self):
        return [program for program in self.programs if not shutil.which(program)]

    def value(self, figure):
        if self.kind == "memory":
            return figure.kib_each
        return figure.latency_us if self.kind in ("latency", "flat") else figure.rate

    def ratio(self, kernel, shim):
        """How many times better the shim is; of memory, how much more it needs."""
        if self.kind == "memory":
            return shim - kernel
        return shim / kernel if self.kind == "rate" else kernel / shim
