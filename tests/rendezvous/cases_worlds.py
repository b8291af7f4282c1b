# SPDX-License-Identifier: Apache-2.0
"""Processes that change what is around them, or start in strange company."""
import glob
import os
import re
import subprocess

import harness
from harness import Skip, build, case, expect_accelerated, expect_plain, run


def library(pattern):
    found = glob.glob(f"/usr/lib/*/{pattern}")
    if not found:
        raise Skip(f"{pattern} is not installed")
    return found[0]


def beside(pair, preload):
    server = pair.server("tcp:127.0.0.1:0", env={"LD_PRELOAD": preload})
    expect_accelerated(pair.client(server.address, "conns=2", env={"LD_PRELOAD": preload}), 2)
    expect_accelerated(server, 2)


@case
def beside_jemalloc(pair):
    beside(pair, f"{harness.SHIM}:{library('libjemalloc.so.2')}")


@case
def behind_jemalloc(pair):
    """Its constructor runs before ours."""
    beside(pair, f"{library('libjemalloc.so.2')}:{harness.SHIM}")


@case
def beside_tcmalloc(pair):
    beside(pair, f"{harness.SHIM}:{library('libtcmalloc_minimal.so.4')}")


@case
def behind_tcmalloc(pair):
    beside(pair, f"{library('libtcmalloc_minimal.so.4')}:{harness.SHIM}")


def apart(*how):
    run("unshare", *how, "true")
    return ("unshare", *how)


@case
def pid_namespace_apart(pair):
    """No process id in common."""
    server = pair.server("tcp:127.0.0.1:0", under=apart("--pid", "--fork", "--kill-child"))
    expect_accelerated(pair.client(server.address))


@case
def mount_namespace_apart(pair):
    server = pair.server("tcp:127.0.0.1:0", under=apart("--mount"))
    expect_accelerated(pair.client(server.address, under=apart("--mount")))


@case
def pid_and_mount_namespace_apart_unix(pair):
    server = pair.server("unix:@shmipc-apart", under=apart("--mount", "--pid", "--fork", "--kill-child"))
    expect_accelerated(pair.client(server.address))


@case
def user_namespace_apart(pair):
    """The same user, seen from two sides; at least right, whatever can be proved."""
    server = pair.server("tcp:127.0.0.1:0", under=apart("--user", "--map-root-user"))
    client = pair.client(server.address)
    assert client.events("closed"), "the shim saw no connection end"


def empty_root():
    path = f"{harness.DIR}/root"
    os.makedirs(path, exist_ok=True)
    return path


@case
def chroot_before_serving(pair):
    if os.geteuid() != 0:
        raise Skip("chroot needs root")
    server = pair.server("tcp:127.0.0.1:0", f"chroot={empty_root()}")
    expect_accelerated(pair.client(server.address))


@case
def both_setuid(pair):
    if os.geteuid() != 0:
        raise Skip("setuid needs root")
    server = pair.server("tcp:127.0.0.1:0", "setuid=65534")
    expect_accelerated(pair.client(server.address, "setuid=65534"))


@case
def one_setuid(pair):
    if os.geteuid() != 0:
        raise Skip("setuid needs root")
    server = pair.server("tcp:127.0.0.1:0")
    expect_plain(pair.client(server.address, "setuid=65534"), "foreign-user", "identity", "peer-plain")


@case
def fewer_descriptors(pair):
    server = pair.server("tcp:127.0.0.1:0", "nofile=64")
    expect_accelerated(pair.client(server.address, "nofile=64"))


@case
def socket_activation(pair):
    server = pair.start("server", "server", "tcp:127.0.0.1:0", "activated",
                        under=("/usr/bin/python3", f"{harness.HERE}/activate.py"))
    expect_accelerated(pair.client(server.ready(), "conns=3"), 3)
    expect_accelerated(server, 3)


def late(how, library, preload):
    """A program that loads a library when it is running already: bytes that went by rings, of both ends."""
    log = f"{harness.DIR}/late.log"
    env = dict(os.environ, SHMIPC_ENDPOINTS="tcp:*", SHMIPC_LOG=f"info:{log}")
    if preload:
        env["LD_PRELOAD"] = harness.SHIM
    result = subprocess.run([build("late"), how, library], env=env, capture_output=True, text=True, check=False,
                            timeout=harness.DEADLINE_S)
    assert result.returncode == 0, (result.returncode, result.stderr)
    if not os.path.exists(log):
        return 0
    with open(log, encoding="ascii") as file:
        text = file.read()
    os.unlink(log)
    return sum(int(n) for n in re.findall(r"ring_tx=(\d+)", text))


def plugin(binding="lazy"):
    out = f"{harness.DIR}/plugin-{binding}.so"
    harness.run(os.environ.get("CC", "cc"), "-shared", "-fPIC", "-D_GNU_SOURCE", f"-Wl,-z,{binding}", "-o", out,
                f"{harness.HERE}/plugin.c")
    return out


def large_library():
    """The loader fills its table for some milliseconds, and then takes the right to write there away."""
    source, out = f"{harness.DIR}/large.c", f"{harness.DIR}/large.so"
    names = ("send", "recv", "read", "write") * 20000
    with open(source, "w", encoding="ascii") as file:
        file.write("#include <sys/socket.h>\n#include <unistd.h>\n"
                   f"void *const table[] = {{ {', '.join(f'(void *){name}' for name in names)}, (void *)recv }};\n"
                   f"void *last_of_table(void);\nvoid *last_of_table(void) {{ return table[{len(names)}]; }}\n")
    harness.run(os.environ.get("CC", "cc"), "-shared", "-fPIC", "-Wl,-z,now,-z,relro", "-o", out, source)
    return out


@case
def library_that_is_looked_at_while_it_is_loaded(_):
    env = dict(os.environ, SHMIPC_ENDPOINTS="tcp:*", LD_PRELOAD=harness.SHIM)
    result = subprocess.run([build("loading"), large_library(), "40"], env=env, capture_output=True, text=True,
                            check=False, timeout=harness.DEADLINE_S)
    assert result.returncode == 0, (result.returncode, result.stderr)


@case
def shim_loaded_late(_):
    """By dlopen(): it stands behind libc, takes over nothing and is in nobody's way."""
    assert late("shim", harness.SHIM, preload=False) == 0


@case
def library_loaded_late(_):
    assert late("plugin", plugin(), preload=True) > 0


@case
def library_that_binds_deep(_):
    """Its calls are brought back to the shim, so it has connections of ours, and may use the program's."""
    for binding in ("lazy", "now"):
        assert late("deep", plugin(binding), preload=True) > 0
        assert late("mixed", plugin(binding), preload=True) > 0
