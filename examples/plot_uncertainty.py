"""
How sure is it? Intervals, and "I don't know"
=============================================

"34 years" is half an answer. "Between 26 and 47, and in nine cases of ten such an answer is right"
is one that can be used. This page looks at the two numbers that a model says about its own
certainty, the interval of the age and the probability of the gender, and checks whether it keeps
its word.
"""

# %%
# A model, and faces that it has not seen
# ---------------------------------------
# ``fit`` keeps a part of its pictures from training and from early stopping, and measures on it how
# far the predicted distribution is to be believed: by default a tenth
# (``calibration_fraction=0.1``), here a fifth, for a tenth of a small set is few. With
# ``calibration_fraction=0`` the model is taken at its word.

import tempfile
from pathlib import Path

from agegender import AgeGenderClassifier, AgeGenderPipeline, EmbeddingExtractor
from agegender.datasets import make_faces
from agegender.model_selection import grouped_split

folder = tempfile.TemporaryDirectory()
work = Path(folder.name)
faces = make_faces(1200, work / "faces", size=120)
train, test = grouped_split(faces.target, faces.groups, test_size=0.4)
model = AgeGenderPipeline(
    EmbeddingExtractor("compact", cache=work / "cache"),
    AgeGenderClassifier(calibration_fraction=0.2, random_state=0),
)
model.fit(faces.data[train], faces.target[train])
pictures, truth = faces.data[test], faces.target[test]
print(model.predict_frame(pictures[:5]).round(2).to_string())

# %%
# Behind each age is a distribution
# ---------------------------------
# The head predicts a probability for every year from 0 to 100. ``age`` is its mean; ``age_low`` and
# ``age_high`` cut off as much on either side as the coverage asked for allows. The widths differ
# from face to face, and that is the point of them. Distributions with several summits are a small
# training set's; a large one smooths them.

import matplotlib.pyplot as plt

from agegender.plots import AgeDistributionDisplay

AgeDistributionDisplay.from_estimator(model, pictures[:5], truth[:5])
plt.show()

# %%
# Does it keep its word?
# ----------------------
# Ask for several coverages and count how often the true age lies inside. That is all there is to
# check, and anybody who publishes intervals should. On the diagonal, a model keeps its promise.

import numpy as np

levels = np.array([0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
covered, widths = [], []
for level in levels:
    table = model.predict_frame(pictures, coverage=level)
    inside = (table.age_low <= truth[:, 0]) & (truth[:, 0] <= table.age_high)
    covered.append(inside.mean())
    widths.append((table.age_high - table.age_low).mean())
    print(f"asked {level:4.0%}: {inside.mean():4.0%} inside, {widths[-1]:4.1f} years wide on average")

figure, ax = plt.subplots(figsize=(5, 4.2), layout="constrained")
ax.plot([45, 100], [45, 100], "--", color="#8a9099", label="as promised")
ax.plot(100 * levels, 100 * np.array(covered), "o-", color="#0072B2", label="faces never seen")
ax.set(xlabel="Coverage asked for (%)", ylabel="True ages inside (%)", aspect="equal")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False)
plt.show()

# %%
# The promise is about all faces together, not about each group of them. Wide intervals where a
# model knows little do not come by themselves for groups that it has seen little of: look at
# coverage by age and by group in :doc:`a report </reports>` before relying on it for some.
#
# The gender's probability
# ------------------------
# Of all faces of which the model says "female, 0.8", four fifths should be women. The bars below
# show how many faces there are of each probability.

from agegender.plots import GenderCalibrationDisplay

GenderCalibrationDisplay.from_estimator(model, pictures, truth, n_bins=5)
plt.show()

# %%
# I don't know
# ------------
# What to do with an answer that is too vague to be used? Not to give it. Where the interval is
# wider than ``max_age_range``, or the gender less probable than ``min_gender_proba``, the answer is
# NaN, and ``age_sure`` and ``gender_sure`` say so.

table = model.predict_frame(pictures, max_age_range=30, min_gender_proba=0.8)
print(table.head().round(2).to_string())

# %%
# How strict to be is a trade, and this is its curve: the fewer faces are answered, the fewer of the
# answers are wrong. A curve that does not fall means that the model's doubt is worth nothing.

proba = table.gender_proba.to_numpy()
wrong = model.predict(pictures)[:, 1] != truth[:, 1]
answered, errors = [], []
for threshold in np.linspace(0.5, 0.95, 19):
    given = proba >= threshold
    answered.append(100 * given.mean())
    errors.append(100 * wrong[given].mean())

figure, ax = plt.subplots(figsize=(5.5, 3.4), layout="constrained")
ax.plot(answered, errors, "o-", color="#0072B2", markersize=4)
ax.set(xlabel="Faces answered (%)", ylabel="Wrong genders among them (%)", ylim=(0, None))
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %%
# On 18,826 photographs of UTKFace, intervals asked to hold 90 % of true ages held 90.3 %, at a mean
# width of 18.8 years; how it is by age, and what calibration changed: :doc:`/uncertainty`.

folder.cleanup()
