"""Importing the package changes nothing; a process sets what it needs where it starts."""

import subprocess
import sys

IMPORT_ALL = """
import importlib, logging, os, pkgutil, warnings
import PIL.Image
import apache_beam
before = dict(os.environ), list(warnings.filters), logging.getLogger("PIL").level
import transforms
for found in pkgutil.walk_packages(transforms.__path__, "transforms."):
    importlib.import_module(found.name)
assert dict(os.environ) == before[0]
assert logging.getLogger("PIL").level == before[2]
ignored = [entry for entry in warnings.filters if entry[0] == "ignore"]
assert UserWarning not in [entry[2] for entry in ignored]
"""

POOL = """
import sys
import {first}
assert ("pyarrow" in sys.modules) == ({first!r} == "apache_beam")
from transforms.allocator import share_one_heap
share_one_heap()
import pyarrow
assert pyarrow.default_memory_pool().backend_name == {name!r}
"""


def run(code, **environment):
    words = [sys.executable, "-c", code]
    environment |= {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_importing_all_modules_changes_no_setting_of_the_process():
    run(IMPORT_ALL)


def test_arrow_shares_the_heap_whether_it_is_imported_before_or_after():
    """Beam imports it before a worker sees any of our code."""
    run(POOL.format(first="os", name="system"))
    run(POOL.format(first="apache_beam", name="system"))


def test_the_pool_that_the_environment_names_is_kept():
    run(POOL.format(first="os", name="mimalloc"), ARROW_DEFAULT_MEMORY_POOL="mimalloc")
