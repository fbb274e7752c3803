"""What a safe model file is made of, and what is checked before any of it is used."""
