"""Run Beam's graph in one process, in worker processes or on a cluster."""
