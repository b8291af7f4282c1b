# SPDX-License-Identifier: Apache-2.0
"""Start the two ends, judge by the shim's log, count the cases."""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
PEER = ["/usr/bin/python3", os.path.join(HERE, "peer.py")]
BUILD = os.path.abspath(os.environ.get("BUILD", "build"))
SHIM = os.path.join(BUILD, "libshmipc_shim.so")
DIR = tempfile.mkdtemp(prefix="shmipc-rendezvous.")
DEADLINE_S = 30
CASES = []


class Skip(Exception):
    """The machine cannot do what this case needs."""


def case(function):
    CASES.append(function)
    return function


def long_case(function):
    """One that takes seconds of processor time, and more where others want the processor too."""
    function.deadline_s = 4 * DEADLINE_S
    return case(function)


class End:
    """A process, its shim's log, its answers."""

    def __init__(self, name, role, address, *options, shim=True, endpoints="tcp:*,unix:*", under=(),
                 env=None, log="info"):
        self.name, self.address = name, address
        self.log_path = os.path.join(DIR, f"{name}.log")
        self.error_path = os.path.join(DIR, f"{name}.err")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SHMIPC")}
        if shim:
            environment.update({"LD_PRELOAD": SHIM, "SHMIPC_ENDPOINTS": endpoints,
                                "SHMIPC_LOG": f"{log}:{self.log_path}", **(env or {})})
            open(self.log_path, "w", encoding="ascii").close()
            os.chmod(self.log_path, 0o666)
        # the shim is for the peer itself, not for what starts it
        command = [*under, "env", *(f"{k}={environment.pop(k)}" for k in
                   list(environment) if k == "LD_PRELOAD" or k.startswith("SHMIPC")), *PEER]
        with open(self.error_path, "w", encoding="ascii") as errors:
            self.process = subprocess.Popen(
                [*command, role, address, *options], env=environment, cwd=DIR, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=True)

    def line(self, wanted):
        text = self.process.stdout.readline()
        assert text.startswith(wanted), f"{self.name}: {text!r} instead of {wanted}: {self.errors()}"
        return text[len(wanted):].strip()

    def ready(self):
        """The address with the port that the kernel chose."""
        port = self.line("ready")
        self.address = re.sub(r":0$", ":" + port, self.address)
        return self.address

    def done(self):
        return json.loads(self.line("done"))

    def end(self):
        """Of its own accord, in good order."""
        self.process.stdin.close()
        status = self.process.wait(DEADLINE_S)
        assert status == 0, f"{self.name}: status {status}: {self.errors()}"

    def kill(self):
        for stream in (self.process.stdin, self.process.stdout):
            try:
                stream.close()
            except OSError:
                pass
        try:
            os.killpg(self.process.pid, 9)
        except ProcessLookupError:
            pass
        self.process.wait()

    def errors(self):
        with open(self.error_path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()

    def events(self, event):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            lines = [dict(re.findall(r"(\w+)=(\S+)", line)) for line in file]
        return [line for line in lines if line.get("event") == event]

    def ring_bytes(self):
        return [int(e["ring_tx"]) + int(e["ring_rx"]) for e in self.events("closed")]

    def accelerated(self):
        return sum(1 for n in self.ring_bytes() if n > 0)

    def reasons(self):
        return {e.get("reason") for e in self.events("plain")}

    def maps(self):
        with open(f"/proc/{self.process.pid}/maps", encoding="utf-8", errors="replace") as file:
            return len({line.split()[4] for line in file if "memfd:shmipc-segment" in line})

    def shared_kib(self):
        """What it has of the segments in its memory."""
        return segments_kib(self.process.pid, "Rss")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


def segments_kib(pid, what):
    """The sum of this line of smaps over the segments that a process maps."""
    total, inside = 0, False
    with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if "-" in line.split()[0]:
                inside = "memfd:shmipc-segment" in line
            elif inside and line.startswith(what + ":"):
                total += int(line.split()[1])
    return total


class Pair:
    """A server and a client, killed at the end of the case whatever happens."""

    def __init__(self):
        self.ends = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for end in self.ends:
            end.kill()

    def start(self, name, role, address, *options, **how):
        end = End(name, role, address, *options, **how)
        self.ends.append(end)
        return end

    def server(self, address, *options, **how):
        end = self.start("server", "server", address, *options, **how)
        end.ready()
        return end

    def client(self, address, *options, **how):
        """To its end; its log and its samples."""
        end = self.start("client", "client", address, *options, **how)
        end.seen = end.done()
        end.end()
        return end


def wait_for(what, seconds=5.0):
    import time
    limit = time.monotonic() + seconds
    while not what() and time.monotonic() < limit:
        time.sleep(0.02)
    return what()


def expect_accelerated(end, count=1):
    wait_for(lambda: end.accelerated() >= count, 3)
    assert end.accelerated() >= count, (
        f"{end.name}: {end.accelerated()} accelerated of {count}: {end.events('closed')} {end.reasons()}")


def expect_plain(end, *reasons):
    wait_for(lambda: end.events("closed"), 3)
    assert end.events("closed"), f"{end.name}: the shim saw no connection end"
    assert end.accelerated() == 0, f"{end.name}: bytes by shared memory: {end.events('closed')}"
    assert "?" not in {e["endpoint"] for e in end.events("closed")}, f"{end.name}: of what endpoint?"
    if reasons:
        assert end.reasons() & set(reasons), f"{end.name}: {end.reasons()} instead of {reasons}"


def run(*command, check=True):
    result = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    if check and result.returncode:
        raise Skip(f"{' '.join(command)}: {(result.stderr or result.stdout).strip()}")
    return result


class Namespace:
    """A network namespace of the case's own."""

    def __init__(self, name):
        self.name = f"shmipc-{os.getpid()}-{name}"
        if os.geteuid() != 0 or not shutil.which("ip"):
            raise Skip("network namespaces need root and iproute2")

    def __enter__(self):
        run("ip", "netns", "add", self.name)
        run("ip", "-n", self.name, "link", "set", "lo", "up")
        return self

    def __exit__(self, *_):
        run("ip", "netns", "del", self.name, check=False)

    def under(self):
        return ("ip", "netns", "exec", self.name)


def build(name, *more):
    """A small C program of this directory."""
    out = os.path.join(DIR, name)
    root = os.path.dirname(os.path.dirname(HERE))
    compiled = run(os.environ.get("CC", "cc"), "-std=gnu11", "-D_GNU_SOURCE", "-O1", "-pthread", f"-I{root}", "-o", out,
                   os.path.join(HERE, name + ".c"), *(os.path.join(root, m) for m in more), check=False)
    assert compiled.returncode == 0, compiled.stderr
    return out


def too_late(*_):
    raise TimeoutError("not done in time")


def main(wanted):
    passed = failed = 0
    chosen = [f for f in CASES if not wanted or any(w in f.__name__ for w in wanted)]
    os.chmod(DIR, 0o777)
    signal.signal(signal.SIGALRM, too_late)
    for function in chosen:
        name = function.__name__.replace("_", "-")
        try:
            signal.alarm(getattr(function, "deadline_s", DEADLINE_S))
            with Pair() as pair:
                function(pair)
            print(f"ok {name}", flush=True)
            passed += 1
        except Skip as why:
            print(f"ok {name} # SKIP {why}", flush=True)
            passed += 1
        except Exception as error:  # a case fails, the others go on
            print(f"not ok {name}: {error or traceback.format_exc()}", flush=True)
            failed += 1
    shutil.rmtree(DIR, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)
