"""
Cross-validation without data leakage
=====================================

A score is valid only if no test picture was used for training, *in any form*. This page makes the
two most common mistakes of published age predictors on purpose, and shows how each changes the
result.
"""

# %%
# A collection with copies
# ------------------------
# Pictures from the web often repeat. In UTKFace, 765 files are byte-for-byte copies of another
# file, and many more are the same photograph, scaled or recompressed. We draw 150 faces and store
# each of them three times: the original, a copy with another name, and a smaller, recompressed
# version, in which every byte differs.
#
# As in many data sets, the labels are wrong by some years, and a copy has the same wrong label as
# its original. So no model can predict these labels better than with an error of about four years,
# unless it has memorised them.

import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from agegender.datasets import make_faces

folder = tempfile.TemporaryDirectory()
work = Path(folder.name)


def with_wrong_labels(faces, seed):
    error = np.random.default_rng(seed).normal(scale=5, size=len(faces.data))
    return np.column_stack([(faces.target[:, 0] + error).clip(0, 100), faces.target[:, 1]])


drawn = make_faces(150, work / "faces")
copies, smaller = [], []
for path in map(Path, drawn.data):
    copies.append(shutil.copy(path, path.with_name("copy_" + path.name)))
    smaller.append(path.with_name("small_" + path.name))
    Image.open(path).resize((120, 120)).save(smaller[-1], quality=80)

X = np.array([*drawn.data, *map(str, copies), *map(str, smaller)], dtype=object)
y = np.vstack([with_wrong_labels(drawn, seed=0)] * 3)

# %%
# Sorted by age, as files often are (UTKFace's names begin with the age):

order = np.argsort(y[:, 0], kind="stable")
X, y = X[order], y[order]

# %%
# Groups
# ------
# ``duplicate_groups`` finds equal files. To find the smaller versions, the faces must be compared:
# ``similar_face_groups`` links pictures whose embeddings have a high cosine similarity. The right
# threshold depends on the pictures. If it is too low, different people are linked, and the largest
# group becomes large.

from agegender import AgeGenderClassifier, AgeGenderPipeline, DenseHead, EmbeddingExtractor
from agegender.model_selection import connected_groups, duplicate_groups, similar_face_groups

embeddings = EmbeddingExtractor("compact", layer="embedding", cache=work / "cache").transform(X)
equal = duplicate_groups(X)
print(f"{len(X)} pictures, {len(set(equal))} different files")
for threshold in (0.98, 0.95, 0.9, 0.8):
    near = similar_face_groups(embeddings, threshold)
    sizes = np.bincount(near)
    print(f"similar to {threshold}: {len(sizes)} groups, the largest of {sizes.max()}")

# %%
# At 0.95, all three versions of nearly every face are in one group, and no group has more than
# three pictures. At 0.8, different people are linked. (0.95 is a good start for photographs too:
# :doc:`/model_selection` shows other thresholds.)

groups = connected_groups(equal, similar_face_groups(embeddings, 0.95))

# %%
# Three cross-validations
# -----------------------
# The same pictures, the same model, three ways to make folds:
#
# - ``KFold(3)``, which is the meaning of scikit-learn's ``cv=3`` here: three consecutive parts of
#   the list. If the list is sorted by age, young people are predicted by a model that has not seen
#   any.
# - ``KFold(3, shuffle=True)``, which most people write. Copies of test pictures are in the training
#   folds.
# - ``AgeGenderKFold(3)`` with the groups: shuffled, stratified by age and gender, copies kept
#   together.

from sklearn.model_selection import KFold, cross_val_score

from agegender.metrics import SCORERS
from agegender.model_selection import AgeGenderKFold

model = AgeGenderPipeline(
    EmbeddingExtractor("compact", cache=work / "cache"),
    AgeGenderClassifier(DenseHead(units=(256,)), epochs=120, random_state=0),
)
folds = {
    "sorted, not shuffled": (KFold(3), None),
    "shuffled, copies in both parts": (KFold(3, shuffle=True, random_state=0), None),
    "AgeGenderKFold with groups": (AgeGenderKFold(3), groups),
}
errors = {}
for name, (cv, kept_together) in folds.items():
    scores = cross_val_score(model, X, y, groups=kept_together, cv=cv, scoring=SCORERS["neg_age_mae"])
    errors[name] = -scores
    print(f"{name:32} {-scores.mean():5.1f} years")

# %%
# Which result is right?
# ----------------------
# Here we can find out, because we can draw new faces: train on the whole collection and predict 240
# new ones.

from agegender.metrics import age_mae

fresh = make_faces(240, work / "fresh", random_state=7)
model.fit(X, y, groups=groups)
truth = age_mae(with_wrong_labels(fresh, seed=1), model.predict(fresh.data))
print(f"new faces: {truth:.1f} years")

# %%
# The folds with groups are closest to the true error. They are slightly pessimistic, because each
# of their models was trained on two thirds of the faces. With copies in both parts, the same model
# seems three times as good as it is, and even better than its labels allow. Nothing in the output
# shows this: there is no warning, the curves look normal, and the folds differ little. With sorted
# folds, the result is as wrong in the other direction.

import matplotlib.pyplot as plt

figure, ax = plt.subplots(figsize=(6.5, 2.8), layout="constrained")
colors = ("#8a9099", "#D55E00", "#0072B2")
for place, (scores, color) in enumerate(zip(errors.values(), colors, strict=True)):
    ax.barh(place, scores.mean(), height=0.6, color=color)
    ax.plot(scores, [place] * 3, "|", color="#30343b", markersize=14)
ax.vlines(truth, -0.45, 2.45, color="#30343b", linestyle="--")
ax.text(truth, -0.5, f"new faces: {truth:.1f}", ha="center", va="bottom")
ax.set_yticks(range(3), [f"{name}: {scores.mean():.1f}" for name, scores in errors.items()])
ax.set(xlabel="Age MAE (years); marks are single folds", ylim=(2.5, -0.9))
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %%
# The same happens on photographs. The report that this library started from drew a new validation
# part before every further training, and its error fell from 7.2 to 2.3 years. With held-out
# pictures, :doc:`the whole improvement turned out to be data leakage </report>`.
#
# There is one more split, inside ``fit``: the validation part for early stopping. Equal pictures
# always stay together in it. Pass other groups as ``model.fit(X, y, groups=groups)``, as above. In
# a cross-validation this needs scikit-learn's metadata routing: see :doc:`/model_selection`.

folder.cleanup()
