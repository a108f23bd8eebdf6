"""Where Beam runs the graph: one process, worker processes, a cluster."""
