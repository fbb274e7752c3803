"""
Look at your data first: which labels are wrong
===============================================

Labels are never all right, and a model learns what is wrong in them.
:func:`~agegender.inspection.inspect_faces` looks at a labelled set before anything is trained on it: which
labels are in doubt, which pictures are copies, which are unreadable, where ages are missing. Here we plant
errors in drawn faces, and see which of them are found.
"""

# %%
# A set with errors
# -----------------
# We draw faces in place of photographs. Twelve get another age, six another gender, one is copied under another
# name and age, and one file is cut off. (The faces are drawings: the results say nothing about people.)

import shutil
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from agegender import AgeGenderClassifier, EmbeddingExtractor
from agegender.datasets import load_table, make_faces
from agegender.inspection import inspect_faces

folder = tempfile.TemporaryDirectory()
work = Path(folder.name)
pictures = work / "faces"
drawn = make_faces(360, pictures, random_state=3)
table = drawn.frame[["path", "age", "gender"]].copy()
table["path"] = [Path(path).name for path in table.path]  # the order of the rows depends on them

rng = np.random.default_rng(0)
rows = rng.choice(np.arange(2, 360), 18, replace=False)
aged, flipped = rows[:12], rows[12:]
table.loc[aged, "age"] = (table.loc[aged, "age"] + 45) % 90
table.loc[flipped, "gender"] = 1 - table.loc[flipped, "gender"]
shutil.copy(pictures / table.path[0], pictures / "again.jpg")
table.loc[len(table)] = ["again.jpg", (table.age[0] + 30) % 90, table.gender[0]]
cut = pictures / table.path[1]
cut.write_bytes(cut.read_bytes()[:4000])
faces = load_table(table, image_root=pictures)

# %%
# Inspect
# -------
# The set is divided into five folds, and each picture is read by a model that saw neither it nor its copies.
# Every picture is embedded once and every fold is trained once: the same call again takes a moment. Drawings
# need no face detector.

found = inspect_faces(
    faces,
    extractor=EmbeddingExtractor("compact", cache=work / "cache"),
    classifier=AgeGenderClassifier(calibration_fraction=0, epochs=60),
    detector=None,
)
for name, count in found.counts.items():
    print(f"{name:20} {count}")
for row in found.unreadable.itertuples():
    print(f"not readable: {Path(row.picture).name}: {row.reason}")

# %%
# Labels in doubt
# ---------------
# The suspicion is the probability that a label belongs to another picture. Beside it stand what models read,
# the nearest faces of other people, and what a copy is labelled.

for row in found.suspicious(8).itertuples():
    print(f"{row.suspicion:4.0%}  {Path(row.picture).name[:16]:16}  {row.reason}")

# %%
# Were they found?
# ----------------
# We know what we planted. In a set of your own nobody does; there, look at the pictures, in the order of suspicion.

order = found.labels.sort_values("age_suspicion", ascending=False).picture
planted = {str(pictures / name) for name in [*table.path[aged], "again.jpg"]}
hits = np.cumsum([path in planted for path in order])
print(f"{hits[19]} of {len(planted)} planted ages are among the 20 most suspicious.")
residual = (found.labels.read_age - found.labels.age).abs()
by_residual = found.labels.picture[residual.sort_values(ascending=False).index]
fig, ax = plt.subplots(figsize=(6, 4), layout="constrained")
ax.step(np.arange(1, 41), hits[:40], where="post", label="by suspicion")
ax.step(
    np.arange(1, 41), np.cumsum([path in planted for path in by_residual])[:40], "--", label="by residual"
)
ax.axhline(len(planted), color="grey", linewidth=1)
ax.set(xlabel="Pictures looked at", ylabel="Planted ages found", title="What looking at a few pictures finds")
ax.legend()
plt.show()

# %%
# Correct
# -------
# :meth:`~agegender.inspection.FacesInspection.clean` makes a table of actions that a person edits. "review"
# changes nothing. Here we follow every suggestion without looking, which you should not do, and let the loader
# take the table back. No file is changed.

actions = found.clean(suspicious="relabel")
actions.to_csv(work / "corrections.csv", index=False)
print(actions.action.value_counts().to_string())

corrected = load_table(table, image_root=pictures, corrections=work / "corrections.csv")
truth = drawn.frame.set_index("path")
relabelled = corrected.corrected[corrected.corrected.path.isin(truth.index)]
right = relabelled.gender.to_numpy() == truth.gender[relabelled.path].to_numpy()
print(f"{len(relabelled)} relabelled; the gender is that of the drawing in {right.sum()} of them.")
print(corrected.excluded.reason.tolist())

# %%
# The last count is why a person has to look: where faces say little (the gender of drawings, of children), a model
# that is sure of itself is wrong as often as a label is.

folder.cleanup()
