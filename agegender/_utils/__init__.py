"""Utilities that all other parts use: files, checks, targets, rows and statistics."""
