"""Lists of pictures, and the files of rows made of them, read back."""
