"""
IMDB-WIKI: half a million faces from a .mat file
================================================

IMDB-WIKI has 523,000 pictures of film actors and of people with a Wikipedia page. The labels are in
a MATLAB file, and many of them are wrong: "ages" from −31 to 2014, pictures without a face or with
two faces. :func:`~agegender.datasets.load_imdb_wiki` computes the ages, excludes rows that cannot
be right, and gives the reasons.

The collection is for academic research only. This page writes a small file in the same layout, with
drawn faces and the same kinds of errors. For the real collection, change only the two paths.
"""

# %%
# A small IMDB
# ------------
# The real file contains one struct with a field per column. Dates of birth are MATLAB's day
# numbers. For the photograph, only the year is known. Gender is 0 for *female* and 1 for *male*,
# the opposite of everywhere else in this library. ``celeb_id`` numbers the persons.

import tempfile
from datetime import date
from pathlib import Path

import numpy as np
from scipy.io import savemat

from agegender.datasets import make_faces

folder = tempfile.TemporaryDirectory()
root = Path(folder.name) / "imdb_crop"
n_pictures, n_persons = 340, 120
rng = np.random.default_rng(0)
drawn = make_faces(n_pictures, root / "00").frame

taken = rng.integers(1950, 2015, n_pictures)
born = [
    date(max(year - age, 1), int(rng.integers(1, 13)), int(rng.integers(1, 29)))
    for year, age in zip(taken, drawn.age, strict=True)
]
columns = {
    "dob": np.array([day.toordinal() + 366.0 for day in born]),
    "photo_taken": taken.astype(float),
    "full_path": np.array([f"00/{Path(path).name}" for path in drawn.path], dtype=object),
    "gender": 1.0 - drawn.gender.to_numpy(),
    "celeb_id": rng.integers(1, n_persons + 1, n_pictures).astype(float),
    "face_score": rng.normal(4, 1, n_pictures),
    "second_face_score": np.full(n_pictures, np.nan),
}

# %%
# Now we add errors. The real file has thousands of each kind:

columns["gender"][:8] = np.nan
columns["photo_taken"][8:16] -= 100  # born after the photograph was taken
columns["face_score"][16:56] = -np.inf  # no face was found
columns["second_face_score"][56:116] = 2.5  # two faces: whose age is it?
columns["face_score"][116:126] = 0.7  # hardly a face
struct = {name: values.reshape(1, -1) for name, values in columns.items()}
savemat(root / "imdb.mat", {"imdb": struct}, do_compression=True)

# %%
# Load
# ----
# No picture is opened: half a million rows take about ten seconds. With ``check_files=True``, the
# loader also checks that the files exist.

from agegender.datasets import load_imdb_wiki

faces = load_imdb_wiki(root / "imdb.mat", root, min_face_score=1.0, second_face=False)
print(f"{len(faces.data)} of {n_pictures} pictures remain")
columns = ["age", "gender", "celeb_id", "born", "photo_taken", "face_score"]
print(faces.frame[columns].head(4).to_string())

# %%
# The excluded rows and their reasons. Nothing is dropped silently: every row of the file is either
# in ``frame`` or here.

import matplotlib.pyplot as plt

reasons = faces.excluded.reason.str.split(":").str[0].value_counts()
print(faces.excluded.reason.iloc[0])
figure, ax = plt.subplots(figsize=(6, 2.6), layout="constrained")
bars = ax.barh(reasons.index[::-1], reasons.to_numpy()[::-1], color="#0072B2")
ax.bar_label(bars, padding=3)
ax.set_xlabel("Excluded pictures")
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %%
# Persons
# -------
# There are dozens of pictures of one actor. If some of them are in the training folds and others in
# the test fold, the score measures how well a network recognises *people* whose age it has seen.
# ``groups`` numbers the persons, and ``AgeGenderKFold`` keeps each person in one fold.

from agegender import AgeGenderClassifier, AgeGenderPipeline, EmbeddingExtractor
from agegender.metrics import age_mae, gender_accuracy
from agegender.model_selection import AgeGenderKFold, cross_val_predict_frame

print(f"{len(set(faces.groups))} persons, at most {np.bincount(faces.groups).max()} pictures per person")
folds = AgeGenderKFold(4)
for train, test in folds.split(faces.data, faces.target, faces.groups):
    common = set(faces.groups[train]) & set(faces.groups[test])
    print(f"{len(train)} to train, {len(test)} to test, {len(common)} persons in both")

# %%
# Cross-validate
# --------------
# ``cross_val_predict_frame`` returns the prediction of each picture by a model that has not seen
# its person.

model = AgeGenderPipeline(
    EmbeddingExtractor("compact", cache=root / "cache", on_error="nan"),
    AgeGenderClassifier(random_state=0),
)
table = cross_val_predict_frame(model, faces.data, faces.target, groups=faces.groups, cv=folds)
print(table.head(3).round(1).to_string())
print(f"age MAE {age_mae(table.true_age, table.age):.1f} years, ", end="")
print(f"gender accuracy {100 * gender_accuracy(table.true_gender, table.gender):.0f} %")

# %%
# Two recommendations for the real collection. First, the activations of half a million pictures may
# be larger than memory: what exceeds ``AgeGenderPipeline(memory_limit="2GB")`` is stored in a
# temporary file. Second, use the collection for training, but not for testing: its labels were
# collected automatically, and part of any error is an error of the labels.

folder.cleanup()
