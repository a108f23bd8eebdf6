"""Answer questions before and after a run: estimate, selfcheck, trace."""
