"""From pictures to rows: one pass over many pictures, here or on the workers of a cluster."""
