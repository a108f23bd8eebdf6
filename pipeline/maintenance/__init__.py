"""Maintain an output between runs: compact, rollback, vacuum, verify, repair."""
