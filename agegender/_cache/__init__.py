"""The SQLite file of the cache, and the statements that read and write rows."""
