"""Decoding of pictures to upright RGB pixels, and alignment of faces by their landmarks."""
