"""The steps of a run: list, plan, extract, publish; and how one resumes."""
