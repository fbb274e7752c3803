"""
More than one machine: Dask
===========================

One machine embeds some dozens of ArcFace's pictures a second and some hundreds of a small network's.
Ten million of them want many machines. There are two ways, and this page shows both on two small
worker processes: ``transform`` that is *spread* over a cluster while the rows come back here, and
*shards*, files that each machine writes by itself, for what is too much to come back.
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
# On a real one, ``dask scheduler`` runs on one machine, ``dask worker tcp://scheduler:8786`` on each
# of the others, and ``Client("tcp://scheduler:8786")`` is all that is needed here. To try things on one
# machine there is ``LocalCluster``; in a script, and not in a notebook, it stands below
# ``if __name__ == "__main__":``. The one of this page starts its workers as the command does.

from distributed import Client, SubprocessCluster

scheduler = {"dashboard_address": "127.0.0.1:0"}  # any free port
cluster = SubprocessCluster(n_workers=2, threads_per_worker=1, scheduler_kwargs=scheduler)
client = Client(cluster)
client.wait_for_workers(2)
print(f"{len(client.scheduler_info()['workers'])} workers")

# %%
# Spread a call
# -------------
# Inside of joblib's context everything else stays as it was. The driver (this process) reads and
# hashes the files and looks them up; what is not in its cache goes to the workers, some dozens at a
# time, and their rows come back and are kept here. Workers need no cache and no shared disk: a
# picture that they do not find under its path is sent to them, and so is the network.

import joblib
import numpy as np

from agegender import EmbeddingExtractor

extractor = EmbeddingExtractor("compact", layer="pooled", cache=root / "cache", batch_size=32)
with joblib.parallel_config(backend="dask"):
    rows = extractor.transform(faces.data)
print(f"{extractor.report_.n_computed} pictures computed on the workers, rows of shape {rows.shape}")

extractor.transform(faces.data)
print(f"once more, here: {extractor.report_.n_cached} from the cache")

# %%
# The numbers are those of one machine.

alone = EmbeddingExtractor("compact", layer="pooled", cache=None).transform(faces.data[:32])
print(f"largest difference: {np.abs(alone - rows[:32]).max():.1e}")

# %%
# A worker that dies in the middle costs the chunk that it was at, which another one gets. A grid
# search in the same context sends its fits to the workers; embed first, as above, or search over the
# classifier on ``rows``, lest each worker fill a cache of its own.
#
# Shards
# ------
# Of a hundred million pictures, not even the list should pass through one process. Each task below
# takes a number, picks its part of the list by itself, and writes one Parquet file; nothing comes
# back but a report. A file is whole or not there: what is done stays done, and the same call after
# a power cut does the rest.

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
print(f"again: {sum(report.skipped for report in reports)} of {n_shards} were there already")

# %%
# Without Dask, each machine runs the same thing from the shell, with its own numbers:
#
# .. code-block:: bash
#
#    agegender embed list.txt --backbone compact --layer pooled --shard 1/6 --out shards/

client.close()
cluster.close()

# %%
# Read them
# ---------
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
