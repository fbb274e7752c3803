"""
Errors by group
===============

An average hides groups. A model with a mean absolute error of five years may have three years for
the groups that it saw most often and ten for those that it hardly saw. So look at every metric by
group, with its confidence interval, before anybody is affected by a prediction.
"""

# %%
# A collection with a hidden gap
# ------------------------------
# There are two sources of pictures. Most pictures are sharp; one in six comes from an old camera
# and is small, dark and grey. The model does not know the source; it is a column of the table that
# we keep with the pictures. Your pictures may differ by cameras, countries or labels of skin tone.

# sphinx_gallery_thumbnail_number = 2
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from agegender.datasets import make_faces

folder = tempfile.TemporaryDirectory()
work = Path(folder.name)
faces = make_faces(720, work / "faces", size=120)
camera = np.where(np.arange(720) % 6 == 0, "old", "new")
for path in faces.data[camera == "old"]:
    picture = Image.open(path).convert("L").convert("RGB").resize((40, 40))
    ImageEnhance.Brightness(picture).enhance(0.5).save(path, quality=60)

import matplotlib.pyplot as plt

figure, axes = plt.subplots(1, 6, figsize=(7.5, 1.7), layout="constrained")
for ax, path, source in zip(axes, faces.data[4:], camera[4:], strict=False):
    ax.imshow(Image.open(path))
    ax.set_title(source, fontsize="medium")
    ax.axis("off")
plt.show()

# %%
# Out-of-fold predictions
# -----------------------
# Out-of-fold predictions use every picture once as a test picture. This helps small groups most.

from agegender import AgeGenderClassifier, AgeGenderPipeline, EmbeddingExtractor
from agegender.model_selection import AgeGenderKFold, cross_val_predict_frame

model = AgeGenderPipeline(
    EmbeddingExtractor("compact", cache=work / "cache"), AgeGenderClassifier(random_state=0)
)
table = cross_val_predict_frame(model, faces.data, faces.target, cv=AgeGenderKFold(4))

# %%
# The report
# ----------
# The report always contains genders and decades of age; pass other groups as columns. It also
# contains all combinations of two, because a gap may occur only in a combination.

from agegender.reports import EvaluationReport

report = EvaluationReport.from_predictions(
    table, groups={"camera": camera}, pictures=faces.data, gender_names={0: "male", 1: "female"}
)
print(report.overall.round(2).to_string())

# %%
# Group by group
# --------------
# Every value has a 95 % confidence interval (``…_low`` and ``…_high``). Look at the intervals
# first: small groups have wide intervals, and if two intervals overlap, the gap may be due to
# chance.

columns = ["group", "n", "age_mae", "age_mae_low", "age_mae_high", "gender_accuracy"]
by_group = report.by_group
for grouping in ("camera", "gender", "camera × gender"):
    print(by_group.loc[by_group.grouping == grouping, columns].round(2).to_string(index=False), "\n")

# %%
# The same as a figure, with the decades of age. The dashed line is the average, which does not show
# any of this.

shown = by_group[by_group.grouping.isin(["camera", "gender", "camera × gender", "age band"])]
places = np.arange(len(shown)) + np.cumsum(shown.grouping != shown.grouping.shift())
figure, axes = plt.subplots(1, 2, figsize=(7.5, 5.2), sharey=True, layout="constrained")
for ax, name, unit in zip(axes, ("age_mae", "gender_accuracy"), (1, 100), strict=True):
    middle = unit * shown[name]
    low, high = unit * shown[f"{name}_low"], unit * shown[f"{name}_high"]
    ax.errorbar(middle, places, xerr=[middle - low, high - middle], fmt="o", color="#0072B2")
    ax.axvline(unit * report.overall.value[name], color="#8a9099", linestyle="--")
    ax.spines[["top", "right"]].set_visible(False)
axes[0].set_yticks(places, shown.group)
axes[0].invert_yaxis()
axes[0].set_xlabel("Age MAE (years)")
axes[1].set_xlabel("Gender accuracy (%)")
plt.show()

# %%
# The largest gaps
# ----------------
# For each grouping, this table shows the best and the worst group with at least 30 pictures.
# ``clear`` means that their intervals do not overlap. One of the clear gaps is the camera, which
# nobody would have found without a column for it. Others are well known: very old people are
# predicted too young, and the gender of children is hard to predict.

gaps = report.gaps
gaps = gaps[gaps.clear & ~gaps.grouping.str.contains("×")]
print(gaps.drop(columns=["clear", "grouping"]).round(2).to_string(index=False))

# %%
# What can you do about a gap? First look at the pictures: the report shows those with the largest
# errors, and often a label is wrong. Then, in the order of effect: more pictures of the group;
# weights for its pictures (``fit(…, sample_weight=…)``); abstention (``max_age_range``). If a gap
# remains, tell everybody who relies on the model, or do not use it for that group.
#
# The page
# --------
# The report with its plots, calibration and the worst errors as pictures is one file that can be
# mailed and printed. The same numbers are saved as JSON, and the predictions as CSV. ``agegender
# evaluate MODEL DATA --by camera --out report/`` makes a report from a saved model.

report.save(work / "report")
for file in sorted((work / "report").iterdir()):
    print(f"{file.name:18} {file.stat().st_size / 1000:5.0f} kB")

# %%
# On photographs of UTKFace, a frozen network with a dense head has a mean absolute error of 3.2
# years for the race label "asian" and 5.0 for "black". The gender is right for 98.7 % of people in
# their forties, but for 72.3 % of children below ten: see :doc:`/accuracy`. Age and gender
# predicted from a face are estimates about appearance. They must not be used to decide about
# anybody.

folder.cleanup()
