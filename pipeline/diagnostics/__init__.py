"""Answers before and after a run: estimate, selfcheck, trace."""
