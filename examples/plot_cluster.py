"""
Several machines: Dask
======================

One machine embeds some dozens of pictures per second with ArcFace, and some hundreds with a small
network. For ten million pictures you need many machines. This page shows two ways on two small
worker processes: ``transform`` can be *distributed* over a cluster and return the rows to this
process, or each machine can write *shards*, files that are never sent, if the rows are too large.
"""

import tempfile
from pathlib import Path

from agegender.datasets import make_faces

folder = tempfile.TemporaryDirectory()
root = Path(folder.name)
faces = make_faces(240, root / "faces", random_state=0)

# %%
# A cluster
# ---------
# On a real cluster, run ``dask scheduler`` on one machine and ``dask worker tcp://scheduler:8786``
# on each of the others; then ``Client("tcp://scheduler:8786")`` is all that is needed here. To try
# it on one machine, use ``LocalCluster``; in a script (not in a notebook), put it below ``if
# __name__ == "__main__":``. The cluster on this page starts its workers as the command does.

from distributed import Client, SubprocessCluster

scheduler = {"dashboard_address": "127.0.0.1:0"}  # any free port
cluster = SubprocessCluster(n_workers=2, threads_per_worker=1, scheduler_kwargs=scheduler)
client = Client(cluster)
client.wait_for_workers(2)
print(f"{len(client.scheduler_info()['workers'])} workers")

# %%
# Distribute a call
# -----------------
# Within joblib's context, the call is the same as without a cluster. The driver (this process)
# reads and hashes the files and looks them up. Pictures that are not in its cache are sent to the
# workers, some dozens at a time; their rows come back and are cached here. Workers need no cache
# and no shared disk: if a worker does not find a picture or the network, it is sent.

import joblib
import numpy as np

from agegender import EmbeddingExtractor

extractor = EmbeddingExtractor("compact", layer="pooled", cache=root / "cache", batch_size=32)
with joblib.parallel_config(backend="dask"):
    rows = extractor.transform(faces.data)
print(f"{extractor.report_.n_computed} pictures computed on the workers, rows of shape {rows.shape}")

extractor.transform(faces.data)
print(f"again, without the cluster: {extractor.report_.n_cached} from the cache")

# %%
# The rows are the same as on one machine.

alone = EmbeddingExtractor("compact", layer="pooled", cache=None).transform(faces.data[:32])
print(f"largest difference: {np.abs(alone - rows[:32]).max():.1e}")

# %%
# If a worker dies, its chunk is sent to another worker. A grid search in the same context sends its
# fits to the workers. Embed first, as above, or search over the classifier on ``rows``, because
# otherwise each worker fills its own cache.
#
# Shards
# ------
# For a hundred million pictures, not even the list should pass through one process. Each task below
# gets a number, selects its part of the list, and writes one Parquet file; only a report is
# returned. A file is either complete or missing: after an interruption, the same call writes the
# missing files.

from agegender.shards import write_shard

n_shards = 6
(root / "list.txt").write_text("\n".join(map(str, faces.data)), encoding="utf-8")
uncached = EmbeddingExtractor("compact", layer="pooled", cache=None)


def embed_part(number):
    return write_shard(root / "list.txt", root / "shards", uncached, f"{number}/{n_shards}")


reports = client.gather(client.map(embed_part, range(1, n_shards + 1)))
for report in reports:
    print(f"{report.path.name}: {report.n_images} rows, {report.n_failures} failures")

reports = client.gather(client.map(embed_part, range(1, n_shards + 1), pure=False))
print(f"again: {sum(report.skipped for report in reports)} of {n_shards} existed already")

# %%
# Without Dask, run the same from the shell on each machine, with its own number:
#
# .. code-block:: bash
#
#    agegender embed list.txt --backbone compact --layer pooled --shard 1/6 --out shards/

client.close()
cluster.close()

# %%
# Read the shards
# ---------------
# pyarrow, polars, pandas, DuckDB and Spark read the folder as one table.

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.decomposition import PCA

table = pd.read_parquet(root / "shards").set_index("path").loc[map(str, faces.data)]
print(table.error.notna().sum(), "pictures could not be read")
points = PCA(2).fit_transform(np.stack(table.embedding))

figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
dots = ax.scatter(*points.T, c=faces.target[:, 0], s=14, cmap="viridis")
figure.colorbar(dots, label="Age in years")
ax.set(xlabel="First component", ylabel="Second component")
ax.spines[["top", "right"]].set_visible(False)
plt.show()

folder.cleanup()
