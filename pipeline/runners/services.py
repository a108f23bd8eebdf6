"""Check that the cluster of a run answers, before anything is planned."""

from __future__ import annotations

import re
import socket
import time
from pathlib import Path

from pipeline.runners.options import RunnerOptions
from transforms.errors import RunFailed, UserError

# Dask's own default is 30 s, after which its message names no option.
_ANSWER_SECONDS = 5


def check_scheduler(runner: RunnerOptions) -> None:
    """Check that Dask's scheduler answers, if the run has one.

    Args:
        runner: The options of Beam.

    Raises:
        UserError: The address cannot be read, or the scheduler's file does not exist.
        RunFailed: Nothing answers at the address.
    """
    if not runner.on_dask:
        return
    file, address = runner.values.get("scheduler_file"), runner.values.get("address")
    if file and not Path(file).is_file():
        raise UserError(f"--dask_scheduler_file {file}: there is no such file")
    if not address or address.startswith("inproc://"):
        return
    found = re.fullmatch(r"(?:\w+://)?(?:\[([^\]]+)\]|([^:\[\]/]+)):(\d{1,5})", address)
    if not found:
        raise UserError(
            f"--dask_client_address {address}: write tcp://HOST:PORT; a scheduler's port is "
            "usually 8786"
        )
    wait = runner.values.get("timeout")
    error = _connect(
        found[1] or found[2], int(found[3]), wait if isinstance(wait, int) else _ANSWER_SECONDS
    )
    if error:
        raise RunFailed(
            f"no Dask scheduler answers at {address} (--dask_client_address): {error}. Nothing was "
            "planned. Start the scheduler ('dask scheduler'), or correct the address"
        )


def _connect(host: str, port: int, seconds: float) -> OSError | OverflowError | None:
    """Return None once a connection is accepted, or the last error after the time."""
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((host, port), timeout=max(1, seconds)).close()
        except (socket.gaierror, OverflowError) as error:
            return error
        except OSError as error:
            if time.monotonic() >= end:
                return error
            time.sleep(0.2)
        else:
            return None
