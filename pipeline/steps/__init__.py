"""Do the steps of a run: list, plan, extract, publish; and resume an unfinished run."""
