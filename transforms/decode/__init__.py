"""Encoded bytes to RGB pixels, one file per format."""
