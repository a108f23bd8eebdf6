"""Train on what was extracted: a head on the vectors, or the network itself."""
