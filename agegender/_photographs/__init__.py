"""Pictures of faces on their way from a file's bytes to the square that a network is shown."""
