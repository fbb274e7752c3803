"""
Grid search over heads
======================

Which head, which learning rate? In most deep-learning code every question of this kind costs a
training run over all pictures. Here the face network is frozen: it sees each picture once, ever,
and the whole search runs on what it said.

The object that makes it so is an ordinary estimator, so the search is scikit-learn's own
:class:`~sklearn.model_selection.GridSearchCV`.
"""

# %%
# What is searched over
# ---------------------
# Three heads. ``DenseHead()`` is one softmax layer for the ages and one for the genders, on the
# network's penultimate layer; ``DenseHead(units=(128,))`` has a hidden layer; ``ConvHead(…)`` reads
# the network's last *map* instead, where the face still has a left and a right. Each asks for the
# layer that it needs; nobody has to say it twice.
#
# Parameters of the classifier are reached as ``classifier__…``, of the extractor as
# ``extractor__…``, as in any pipeline.

import tempfile
from pathlib import Path

from sklearn.model_selection import GridSearchCV

from agegender import (
    AgeGenderClassifier,
    AgeGenderPipeline,
    ConvHead,
    DenseHead,
    EmbeddingExtractor,
)
from agegender.datasets import make_faces
from agegender.metrics import SCORERS
from agegender.model_selection import AgeGenderKFold

folder = tempfile.TemporaryDirectory()
work = Path(folder.name)
faces = make_faces(210, work / "faces", size=120)
heads = {
    "softmax": DenseHead(),
    "128 hidden units": DenseHead(units=(128,)),
    "map, depthwise": ConvHead(filters=(), depthwise="global", units=(128,)),
}
search = GridSearchCV(
    AgeGenderPipeline(
        EmbeddingExtractor("compact", cache=work / "cache"),
        AgeGenderClassifier(epochs=25, random_state=0),
    ),
    {"classifier__head": list(heads.values()), "classifier__learning_rate": [3e-3, 1e-3]},
    cv=AgeGenderKFold(3),
    scoring=SCORERS,
    refit="neg_age_mae",
)
search.fit(faces.data, faces.target, groups=faces.groups)
print(f"{len(search.cv_results_['params'])} combinations in {search.n_splits_} folds")

# %%
# Two things in this call matter more than the grid. ``cv=AgeGenderKFold(3)`` and not ``cv=3``,
# which scikit-learn takes for folds in the order of the files: where these are sorted by age, each
# fold is tested on ages never trained on. And ``groups``, so that copies of a picture stay
# together. A search that leaks picks the head that memorises best.
#
# Each picture went through the network once a layer
# --------------------------------------------------
# Six combinations, three folds, a refit: 19 trainings. The cache tells what the network did for
# them: the penultimate layer, here called ``gathered``, for the dense heads, and the map for the
# third, once each. (``faces`` is where landmarks lie in some of the pictures: a model keeps how its
# training faces were framed, so as to frame those that it finds in whole photographs alike.)

from agegender.cache import open_cache

layers = open_cache(work / "cache").info().recipes
for recipe in layers:
    print(f"{recipe.recipe.layer:12} {recipe.n_rows} pictures, {recipe.n_bytes / 1e6:.1f} MB")
print("the last training computed", search.best_estimator_.extractor_.report_.n_computed, "of them")

# %%
# The result
# ----------
# Points are means over the folds, lines their standard errors. Where lines overlap, the folds do
# not tell the two apart: take the simpler one, or more pictures.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

table = pd.DataFrame(search.cv_results_)
names = {repr(head): name for name, head in heads.items()}
table["head"] = table["param_classifier__head"].map(repr).map(names)
table["rate"] = table["param_classifier__learning_rate"].map("{:g}".format)
table["age MAE"] = -table["mean_test_neg_age_mae"]
table["gender"] = table["mean_test_gender_accuracy"]
print(table[["head", "rate", "age MAE", "gender"]].round(2).to_string(index=False))

figure, ax = plt.subplots(figsize=(6, 3.4), layout="constrained")
for shift, (rate, rows) in zip((-0.1, 0.1), table.groupby("rate"), strict=True):
    places = np.arange(len(rows)) + shift
    spread = rows["std_test_neg_age_mae"] / np.sqrt(3)
    ax.errorbar(rows["age MAE"], places, xerr=spread, fmt="o", capsize=3, label=f"learning rate {rate}")
ax.set_yticks(np.arange(len(heads)), list(heads))
ax.set(xlabel="Age MAE (years)", ylim=(len(heads) - 0.5, -0.5))
ax.spines[["top", "right"]].set_visible(False)
figure.legend(loc="outside upper right", ncols=2, frameon=False)
plt.show()

# %%
# ``search.best_estimator_`` is a fitted pipeline, ready to predict or to be saved.
#
# On 18,826 photographs of UTKFace with a larger network, the same comparison reads: one softmax
# layer 4.80 years, 256 hidden units 4.59, with batch normalisation and dropout, the default, 4.50.
# See :doc:`/accuracy`.

print(search.best_params_)
folder.cleanup()
