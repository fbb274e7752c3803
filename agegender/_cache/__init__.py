"""The file under the cache of embeddings, and the statements that move rows in and out of it."""
