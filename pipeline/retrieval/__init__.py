"""Find images by their vectors: exact search, the index, filters, a page to look at."""
