"""
Uncertainty: intervals and abstention
=====================================

"34 years" is only half of an answer. "Between 26 and 47, and nine of ten such answers are right"
can be used. This page looks at the two numbers with which a model states its uncertainty, the
interval of the age and the probability of the gender, and checks whether they are calibrated.
"""

# %%
# A model, and held-out faces
# ---------------------------
# ``fit`` keeps a calibration set that is used neither for training nor for early stopping. By
# default it is a tenth of the pictures (``calibration_fraction=0.1``); here it is a fifth, because
# the set is small. With ``calibration_fraction=0`` there is no calibration, and raw probabilities
# are used.

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
# A distribution for each picture
# -------------------------------
# The head predicts a probability for every year from 0 to 100. ``age`` is its mean. ``age_low`` and
# ``age_high`` are the ends of the interval for the requested coverage. The width differs from face
# to face, because some faces are harder than others. Distributions with several peaks come from the
# small training set; with a large one they are smoother.

import matplotlib.pyplot as plt

from agegender.plots import AgeDistributionDisplay

AgeDistributionDisplay.from_estimator(model, pictures[:5], truth[:5])
plt.show()

# %%
# Is it calibrated?
# -----------------
# Request several coverages, and count how often the true age is inside the interval. Anybody who
# publishes intervals should check this. On the diagonal, a model has the promised coverage.

import numpy as np

levels = np.array([0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
covered, widths = [], []
for level in levels:
    table = model.predict_frame(pictures, coverage=level)
    inside = (table.age_low <= truth[:, 0]) & (truth[:, 0] <= table.age_high)
    covered.append(inside.mean())
    widths.append((table.age_high - table.age_low).mean())
    print(f"nominal {level:4.0%}: coverage {inside.mean():4.0%}, mean width {widths[-1]:4.1f} years")

figure, ax = plt.subplots(figsize=(5, 4.2), layout="constrained")
ax.plot([45, 100], [45, 100], "--", color="#8a9099", label="nominal")
ax.plot(100 * levels, 100 * np.array(covered), "o-", color="#0072B2", label="held-out faces")
ax.set(xlabel="Nominal coverage (%)", ylabel="Empirical coverage (%)", aspect="equal")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False)
plt.show()

# %%
# The coverage is an average over all faces, not for each group. If the model has seen few pictures
# of a group, its intervals are not automatically wider: check the coverage by age and by group in
# :doc:`a report </reports>` before you rely on it.
#
# The probability of the gender
# -----------------------------
# Of all faces with the prediction "female, 0.8", four of five should be women. The bars below show
# how many faces have each probability.

from agegender.plots import GenderCalibrationDisplay

GenderCalibrationDisplay.from_estimator(model, pictures, truth, n_bins=5)
plt.show()

# %%
# Abstention
# ----------
# If a prediction is too uncertain to be used, the model can abstain. If the interval is wider than
# ``max_age_range``, or the gender less probable than ``min_gender_proba``, the value is NaN, and
# ``age_sure`` and ``gender_sure`` are false.

table = model.predict_frame(pictures, max_age_range=30, min_gender_proba=0.8)
print(table.head().round(2).to_string())

# %%
# The threshold is a trade-off, shown by this curve: the fewer faces are answered, the fewer answers
# are wrong. If the curve does not fall, the probabilities are useless.

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
# On 18,826 photographs of UTKFace, intervals with a nominal coverage of 90 % contained 90.3 % of
# the true ages, with a mean width of 18.8 years. :doc:`/uncertainty` shows the coverage by age, and
# the effect of calibration.

folder.cleanup()
