"""Containers: files that hold many images (tar, zip, TFRecord, Parquet).

A *walk* finds the members of a container, and where their bytes are. Their *index* is kept for each
version of a container. To add a kind, write its walk and its line in ``kinds``.
"""
