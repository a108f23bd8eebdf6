"""The report of one night: what came, what failed, how it looks, and whether it drifts."""
