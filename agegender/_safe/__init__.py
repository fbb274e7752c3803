"""Safe model files: their parts, and the checks before use."""
