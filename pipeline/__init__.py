"""Run the pipeline (plan, extract, publish) and maintain its tables: the public Python API.

From Python: ``pipeline.extract(pipeline.Config(inputs=("photos",), output="features"))``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.diagnostics.trace import trace
    from pipeline.exporting.run import ExportConfig, export
    from pipeline.grouping.find import DuplicatesConfig, duplicates
    from pipeline.indexing.build import IndexConfig, index
    from pipeline.maintenance.compact import compact
    from pipeline.maintenance.history import history
    from pipeline.maintenance.repair import repair
    from pipeline.maintenance.rollback import rollback
    from pipeline.maintenance.vacuum import vacuum
    from pipeline.maintenance.verify import verify
    from pipeline.reports.night.night import ReportConfig, report_night, write_report
    from pipeline.reports.progress import Done
    from pipeline.reports.show import show
    from pipeline.reports.status import status
    from pipeline.retrieval.query import Query
    from pipeline.retrieval.search import search
    from pipeline.retrieval.searcher import SearchConfig, Searcher
    from pipeline.run import extract, extract_each, plan_each, plan_run, publish_each, publish_run
    from pipeline.state.summary import Summary
    from transforms.choices import BackboneConfig
    from transforms.errors import Damaged, Refused, RunFailed, UserError
    from transforms.storage import StorageError

__all__ = [
    "BackboneConfig",
    "Config",
    "Damaged",
    "Done",
    "DuplicatesConfig",
    "ExportConfig",
    "IndexConfig",
    "Query",
    "Refused",
    "ReportConfig",
    "RunFailed",
    "SearchConfig",
    "Searcher",
    "StorageError",
    "Summary",
    "UserError",
    "compact",
    "duplicates",
    "export",
    "extract",
    "extract_each",
    "history",
    "index",
    "plan_each",
    "plan_run",
    "publish_each",
    "publish_run",
    "repair",
    "report_night",
    "rollback",
    "search",
    "show",
    "status",
    "trace",
    "vacuum",
    "verify",
    "write_report",
]

_HOMES = {
    "BackboneConfig": "transforms.choices",
    "Config": "pipeline.config",
    "Damaged": "transforms.errors",
    "Done": "pipeline.reports.progress",
    "DuplicatesConfig": "pipeline.grouping.find",
    "ExportConfig": "pipeline.exporting.run",
    "IndexConfig": "pipeline.indexing.build",
    "Query": "pipeline.retrieval.query",
    "Refused": "transforms.errors",
    "ReportConfig": "pipeline.reports.night.night",
    "RunFailed": "transforms.errors",
    "SearchConfig": "pipeline.retrieval.searcher",
    "Searcher": "pipeline.retrieval.searcher",
    "StorageError": "transforms.storage",
    "UserError": "transforms.errors",
    "Summary": "pipeline.state.summary",
    "compact": "pipeline.maintenance.compact",
    "duplicates": "pipeline.grouping.find",
    "export": "pipeline.exporting.run",
    "extract": "pipeline.run",
    "extract_each": "pipeline.run",
    "history": "pipeline.maintenance.history",
    "index": "pipeline.indexing.build",
    "plan_each": "pipeline.run",
    "plan_run": "pipeline.run",
    "publish_each": "pipeline.run",
    "publish_run": "pipeline.run",
    "repair": "pipeline.maintenance.repair",
    "report_night": "pipeline.reports.night.night",
    "rollback": "pipeline.maintenance.rollback",
    "search": "pipeline.retrieval.search",
    "show": "pipeline.reports.show",
    "status": "pipeline.reports.status",
    "trace": "pipeline.diagnostics.trace",
    "vacuum": "pipeline.maintenance.vacuum",
    "verify": "pipeline.maintenance.verify",
    "write_report": "pipeline.reports.night.night",
}


def _check_shadow() -> None:
    """Check that ``transforms`` is the package beside this one.

    Raises:
        ImportError: Another file of that name comes first on Python's path.
    """
    from importlib.util import find_spec
    from pathlib import Path

    ours = Path(__file__).resolve().parents[1] / "transforms" / "__init__.py"
    spec = find_spec("transforms")
    found = spec.origin or next(iter(spec.submodule_search_locations or []), "") if spec else None
    if found is None or Path(found).resolve() != ours:
        raise ImportError(
            f"beam-image-features needs its own package 'transforms' at {ours.parent}, but Python "
            f"finds {found or 'none'} first. Rename that file, or start Python with -P and in "
            "another folder."
        )


_check_shadow()


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
