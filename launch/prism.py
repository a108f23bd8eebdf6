#!/usr/bin/env python3
"""Start Prism, Beam's portable runner, so that it ends with the run: see launch/prism.args."""

import os
import sys

from leash import find, on_leash

prism = find("prism")
on_leash()
os.execv(prism, [prism, *sys.argv[1:]])
