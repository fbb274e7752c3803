"""From the bytes of a picture to upright RGB pixels, and from landmarks to an aligned square."""
