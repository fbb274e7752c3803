"""From pictures to rows: one pass over many pictures, on this machine or on the workers of a cluster."""
