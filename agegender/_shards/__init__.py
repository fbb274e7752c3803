"""Lists of pictures, and reading the shards that were made from them."""
