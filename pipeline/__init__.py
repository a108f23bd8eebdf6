"""Run the pipeline (plan, extract, publish) and maintain its tables: the public Python API.

From Python: ``pipeline.extract(pipeline.Config(inputs=("photos",), output="features"))``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.diagnostics.trace import trace
    from pipeline.maintenance.compact import compact
    from pipeline.maintenance.history import history
    from pipeline.maintenance.repair import repair
    from pipeline.maintenance.rollback import rollback
    from pipeline.maintenance.vacuum import vacuum
    from pipeline.maintenance.verify import verify
    from pipeline.reports.show import show
    from pipeline.reports.status import status
    from pipeline.run import extract, extract_each, plan_each, plan_run, publish_each, publish_run
    from pipeline.state.summary import Summary

__all__ = [
    "Config",
    "Summary",
    "compact",
    "extract",
    "extract_each",
    "history",
    "plan_each",
    "plan_run",
    "publish_each",
    "publish_run",
    "repair",
    "rollback",
    "show",
    "status",
    "trace",
    "vacuum",
    "verify",
]

_HOMES = {
    "Config": "pipeline.config",
    "Summary": "pipeline.state.summary",
    "compact": "pipeline.maintenance.compact",
    "extract": "pipeline.run",
    "extract_each": "pipeline.run",
    "history": "pipeline.maintenance.history",
    "plan_each": "pipeline.run",
    "plan_run": "pipeline.run",
    "publish_each": "pipeline.run",
    "publish_run": "pipeline.run",
    "repair": "pipeline.maintenance.repair",
    "rollback": "pipeline.maintenance.rollback",
    "show": "pipeline.reports.show",
    "status": "pipeline.reports.status",
    "trace": "pipeline.diagnostics.trace",
    "vacuum": "pipeline.maintenance.vacuum",
    "verify": "pipeline.maintenance.verify",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that ``--help`` does not wait for Arrow or Beam.

    Beam, gRPC and Arrow read their settings when they are imported, so these are set first.

    Raises:
        AttributeError: The package has no such public name.
    """
    if name not in _HOMES:
        raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
    from importlib import import_module

    from pipeline.runners.quiet import hush
    from transforms.allocator import share_one_heap

    hush()
    share_one_heap()
    return getattr(import_module(_HOMES[name]), name)
