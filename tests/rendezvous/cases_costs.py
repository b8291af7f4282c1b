# SPDX-License-Identifier: Apache-2.0
"""What the shim costs where it does nothing: calls that the kernel sees, counted."""
import os
import subprocess

import harness
from harness import Skip, build, case

WAITS = 200


def asks(after):
    """Questions to the kernel, where the connection is worth a ring after so many round trips."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("SHMIPC")}
    env.update(LD_PRELOAD=harness.SHIM, SHMIPC_ENDPOINTS="tcp:*", SHMIPC_UPGRADE_AFTER=str(after))
    result = subprocess.run([build("asks"), str(WAITS)], env=env, capture_output=True, text=True,
                            timeout=harness.DEADLINE_S, check=False)
    if result.returncode == 77:
        raise Skip(result.stderr.strip())
    assert result.returncode == 0, f"status {result.returncode}: {result.stderr}"
    return int(result.stdout)


@case
def a_wait_for_a_young_connection_asks_once(_):
    count = asks(1000000)
    assert WAITS <= count <= WAITS + WAITS // 10, f"{count} questions for {WAITS} waits"


@case
def a_wait_for_an_accelerated_connection_asks_once(_):
    """But for the first ones, and those that try, which spin: before a spin the kernel is asked too."""
    count = asks(2)
    assert count <= WAITS + WAITS // 2, f"{count} questions for {WAITS} waits"
