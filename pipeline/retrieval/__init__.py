"""Find images by their vectors: exact search, search with the index, filters, a page."""
