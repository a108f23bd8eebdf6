"""Report to people and monitors: progress, status, text tables, metrics."""
