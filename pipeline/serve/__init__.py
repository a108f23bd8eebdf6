"""Serve a local page on the tables: search, galleries, a map."""
