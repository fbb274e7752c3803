"""Fitting of a head: its Keras model, optimiser, held-out part and export."""
