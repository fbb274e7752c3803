"""
The best crop
=============

How much of a picture should the network see? Data sets differ: some cut faces at the hairline, some
show the shoulders, and the network was trained on yet another framing. The extractor's ``crop``
trims a fraction from every side (if negative, it adds a margin). It is a parameter like any other,
so a grid search can find the best value.

For your own pictures, run ``python plot_best_crop.py UTKFace/ face_network.onnx`` with a network
that takes RGB pixels without normalisation.
"""

# sphinx_gallery_thumbnail_number = 2
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from agegender import AgeGenderClassifier, AgeGenderPipeline, Backbone, EmbeddingExtractor
from agegender.datasets import load_utkface, make_faces

folder = tempfile.TemporaryDirectory()
work = Path(folder.name)
if len(sys.argv) > 2:
    faces, cache = load_utkface(sys.argv[1]), "auto"
    crops = np.linspace(-0.15, 0.25, 9)
    network = Backbone.from_onnx(sys.argv[2], mean=0.0, scale=1.0)
else:
    faces, cache = make_faces(240, work / "faces"), work / "cache"
    crops = np.array([-0.15, 0.0, 0.15, 0.3])
    network = "compact"

# %%
# What a crop is
# --------------
# The layer ``"input"`` is the picture as the network sees it. Use it to check a setting before you
# compute embeddings.

shown = crops[:: len(crops) // 4]
figure, axes = plt.subplots(1, len(shown), figsize=(7.5, 2.2), layout="constrained")
for ax, crop in zip(axes, shown, strict=True):
    seen = EmbeddingExtractor(network, layer="input", crop=crop, cache=None).transform(faces.data[:1])
    ax.imshow(seen[0])
    ax.set_title(f"crop {crop:+.2f}")
    ax.axis("off")
plt.show()

# %%
# Search
# ------
# The network runs once per crop and picture; folds and other parameters then cost little.
# ``refit=False``, because here we only need the curve.

from sklearn.model_selection import GridSearchCV

from agegender.metrics import SCORERS
from agegender.model_selection import AgeGenderKFold

n_folds = 3
model = AgeGenderPipeline(
    EmbeddingExtractor(network, cache=cache), AgeGenderClassifier(epochs=50, random_state=0)
)
search = GridSearchCV(
    model, {"extractor__crop": crops}, cv=AgeGenderKFold(n_folds), scoring=SCORERS, refit=False
)
search.fit(faces.data, faces.target, groups=faces.groups)
results = search.cv_results_
errors = -results["mean_test_neg_age_mae"]
genders = 100 * results["mean_test_gender_accuracy"]
for crop, error, gender in zip(crops, errors, genders, strict=True):
    print(f"crop {crop:+.2f}: age MAE {error:.2f} years, gender accuracy {gender:.0f} %")

# %%
# The best crop may differ for age and gender: hair and neck are informative for gender, skin for
# age. One crop is used for both, so look at both curves. Differences smaller than the error bars
# (standard errors over the folds) are not significant.

figure, (top, bottom) = plt.subplots(2, 1, figsize=(6, 4.6), sharex=True, layout="constrained")
errors_spread = results["std_test_neg_age_mae"] / np.sqrt(n_folds)
genders_spread = 100 * results["std_test_gender_accuracy"] / np.sqrt(n_folds)
top.errorbar(crops, errors, errors_spread, marker="o", capsize=3, color="#0072B2")
bottom.errorbar(crops, genders, genders_spread, marker="o", capsize=3, color="#D55E00")
for ax in (top, bottom):
    ax.spines[["top", "right"]].set_visible(False)
top.set_ylabel("Age MAE (years)")
bottom.set_ylabel("Gender accuracy (%)")
bottom.set_xlabel("Crop: trimmed from every side, fraction\n(negative: margin added)")
plt.show()

# %%
# These drawings show more than the face, so trimming helps. UTKFace's pictures are the opposite:
# they are tighter than the training pictures of the network. For 489 of them, a margin reduces the
# error slightly (7.5 → 7.2 years), and trimming increases it by years. :doc:`/faces` shows that
# curve. No crop is best for all pictures, which is why it is a parameter.

folder.cleanup()
