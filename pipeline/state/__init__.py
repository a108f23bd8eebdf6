"""Keep a run's note, ``run.json``, and its summary."""
