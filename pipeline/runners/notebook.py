"""Build our own Beam graphs in a notebook as everywhere else.

Inside IPython, Beam 2.77 puts the number of the cell into the labels of a graph. For that it
imports its interactive environment, which needs pandas, and fails with pandas 3. It also leaves the
pipeline's temporary folder to that environment, and its runner for Dask refuses to start. Our
graphs belong to no cell. Other pipelines of the same notebook keep Beam's behaviour.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import apache_beam as beam

_ours = threading.local()
_changing = threading.Lock()


def plain_pipeline(**options: Any) -> beam.Pipeline:
    """Return a pipeline that Beam treats as if it were not in a notebook.

    Args:
        **options: The arguments of ``beam.Pipeline``.
    """
    import apache_beam as beam

    _look_at_the_mark()

    class PlainPipeline(beam.Pipeline):  # type: ignore[misc]  # Beam has no types
        """Marks its thread while Beam builds or submits it."""

        def apply(self, *args: Any, **kwargs: Any) -> Any:
            with _marked():
                return super().apply(*args, **kwargs)

        def run(self, *args: Any, **kwargs: Any) -> Any:
            with _marked():
                return super().run(*args, **kwargs)

    return PlainPipeline(**options)


@contextmanager
def _marked() -> Iterator[None]:
    """Mark that this thread works on one of our pipelines. The blocks may be nested."""
    before = getattr(_ours, "here", False)
    _ours.here = True
    try:
        yield
    finally:
        _ours.here = before


def _look_at_the_mark() -> None:
    """Make Beam see no IPython in a marked thread."""
    from apache_beam import pipeline
    from apache_beam.utils import interactive_utils

    with _changing:
        asked = interactive_utils.is_in_ipython
        if hasattr(asked, "looks_at_the_mark"):
            return

        def is_in_ipython() -> bool:
            return not getattr(_ours, "here", False) and bool(asked())

        is_in_ipython.looks_at_the_mark = True  # type: ignore[attr-defined]
        interactive_utils.is_in_ipython = pipeline.is_in_ipython = is_in_ipython
