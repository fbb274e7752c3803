"""Frozen networks: their files, their graphs, their layers, and how they are made fast."""
