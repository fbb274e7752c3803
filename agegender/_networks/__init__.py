"""Frozen networks: their files, graphs and layers, and the rewriting that makes them faster."""
