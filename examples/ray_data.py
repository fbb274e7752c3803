"""
Several machines: Ray Data
==========================

Ray is not in agegender's extra for the documentation, so this script is shown but not run here. Run it
with ``pip install 'agegender[ray]'`` and ``python ray_data.py``; on a cluster, use
``ray.init(address="auto")``. As in the example with Dask, each task gets a number, selects its part of
the list and writes one Parquet file. Complete files are not written again.
"""

import sys
import tempfile
from pathlib import Path

from agegender import EmbeddingExtractor
from agegender.datasets import make_faces
from agegender.shards import write_shard

try:
    import ray
except ModuleNotFoundError:
    print("This example needs Ray: pip install 'agegender[ray]'")
    sys.exit()

folder = tempfile.TemporaryDirectory()
root = Path(folder.name)
faces = make_faces(120, root / "faces", random_state=0)
(root / "list.txt").write_text("\n".join(map(str, faces.data)), encoding="utf-8")
ray.init(num_cpus=2, include_dashboard=False)

# %%
# One row per shard
# -----------------
# ``concurrency`` is the number of tasks at a time. If a worker dies, Ray starts its task again.

n_shards = 6
extractor = EmbeddingExtractor("compact", layer="pooled", cache=None)


def embed_part(row):
    report = write_shard(root / "list.txt", root / "shards", extractor, f"{row['id'] + 1}/{n_shards}")
    return {"file": report.path.name, "rows": report.n_images, "failures": report.n_failures}


parts = ray.data.range(n_shards, override_num_blocks=n_shards).map(embed_part, concurrency=2)
print(parts.to_pandas().sort_values("file").to_string(index=False))

# %%
# The folder is a data set
# ------------------------

table = ray.data.read_parquet(str(root / "shards"))
print(table.count(), "rows:", table.schema().names)

# %%
# Distribute a call
# -----------------
# Within joblib's context, ``transform`` runs on Ray's workers. The rows come back to this process, and
# only this process writes the cache.

import joblib
from ray.util.joblib import register_ray

register_ray()
with joblib.parallel_config(backend="ray"):
    rows = extractor.set_params(batch_size=16).transform(faces.data)
print(rows.shape)

ray.shutdown()
folder.cleanup()
