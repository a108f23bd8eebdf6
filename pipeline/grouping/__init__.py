"""Groups of near-duplicates: candidates by vector, confirmed by pixels, as stars."""
