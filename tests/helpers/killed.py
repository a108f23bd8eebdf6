"""Run the command in a process that kills itself at a chosen point.

Usage: ``python -m tests.helpers.killed WHERE COUNT extract …``. It sends itself SIGKILL at the
COUNT-th point whose name contains WHERE (every name contains ""). The points are ``before`` and
``after`` each ``write KEY``, ``delete KEY`` and ``commit TABLE``, and each ``fsync`` (a file is
complete but not renamed yet; it is renamed but the run does not know yet). A process that reaches
its end prints how many points it passed.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from pipeline.cli import main
from pipeline.tables.table import Table
from transforms.storage.bucket_storage import BucketStorage
from transforms.storage.local import LocalStorage

where, count, passed = sys.argv[1], int(sys.argv[2]), 0


def point(name: str) -> None:
    global passed
    passed += where in name
    if passed == count and where in name:
        os.kill(os.getpid(), signal.SIGKILL)


def around(owner: Any, method: str, name: Callable[..., str]) -> None:
    real = getattr(owner, method)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        point(f"before {name(*arguments)}")
        result = real(*arguments, **options)
        point(f"after {name(*arguments)}")
        return result

    setattr(owner, method, wrapped)


for storage in (LocalStorage, BucketStorage):
    around(storage, "write", lambda self, key, _: f"write {key}")
    around(storage, "write_if_absent", lambda self, key, _: f"write {key}")
    around(storage, "delete", lambda self, key: f"delete {key}")
around(Table, "commit", lambda self, _: f"commit {self.name}")
around(os, "fsync", lambda _: "fsync")
code = main(sys.argv[3:])
print(f"points {passed}")
sys.exit(code)
