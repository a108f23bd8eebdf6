"""Servers, files and checks that several tests share."""
