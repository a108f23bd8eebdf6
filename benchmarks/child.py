"""Measure one case in this process, and print its figure as JSON on the last line."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from benchmarks.cases import KINDS, Case
from benchmarks.engines import engine_alone
from benchmarks.measure import Figure, peak_mib
from benchmarks.peers import PEERS
from benchmarks.quality import agreement, scaling
from benchmarks.training import TRAINING


def main() -> None:
    """Measure the case that the command line gives as JSON."""
    case = Case(**json.loads(sys.argv[1]))
    more = {"agreement": agreement, "scaling": scaling, "engine_alone": engine_alone}
    kinds = {**KINDS, **PEERS, **TRAINING, **more}
    seen = kinds[case.kind](case)
    by_name = seen if isinstance(seen, dict) else {"ours": seen}
    figure = Figure(by_name.get("ours", float("nan")), peak_mib(), by_name)
    print(json.dumps(asdict(figure)))


if __name__ == "__main__":
    main()
