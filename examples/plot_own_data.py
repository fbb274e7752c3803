"""
Your own data: a folder and a table
===================================

Most people's faces are in a folder, with a table that somebody wrote by hand. Such tables have
gaps, typing errors and missing pictures. :func:`~agegender.datasets.load_table` reads them. It
drops no row silently: for each row that it excludes, it gives a reason.

(If your folder is UTKFace, or its files are named in the same way, use
:func:`~agegender.datasets.load_utkface`. It reads ages and genders from the file names, so that no
table is needed.)
"""

# %%
# A realistic table
# -----------------
# We draw faces in place of photographs and write a table for them. It has its own column names, an
# age range in one row, two spellings of gender, and the photo session of each picture. Pictures of
# one session share light and background, so they are not independent. Then we add some errors.

import shutil
import tempfile
from pathlib import Path

import pandas as pd

from agegender.datasets import make_faces

folder = tempfile.TemporaryDirectory()
work = Path(folder.name)
drawn = make_faces(360, work / "photos", random_state=1).frame
table = pd.DataFrame(
    {
        "file": [f"photos/{Path(path).name}" for path in drawn.path],
        "years": drawn.age.astype(str),
        "sex": drawn.gender.map({0: "M", 1: "female"}),
        "session": [f"session {number // 3}" for number in range(len(drawn))],
    }
)
table.loc[3, "years"] = "about forty"
table.loc[4, "years"] = "230"
table.loc[5, "years"] = "60+"
table.loc[6, "years"] = "25-32"
table.loc[7, "sex"] = "?"
table.loc[8, "file"] = "photos/lost.jpg"
shutil.copy(work / table.file[10], work / "photos/again.jpg")
table.loc[len(table)] = ["photos/again.jpg", table.years[10], table.sex[10], "another"]
table.to_csv(work / "people.csv", index=False)
print(table.iloc[3:9].to_string(index=False))

# %%
# Load
# ----
# Name the columns. Paths start at the folder of the table. For a range such as "25-32" the midpoint
# is used; we have to explain what "60+" means.

from agegender.datasets import load_table

faces = load_table(
    work / "people.csv",
    path="file",
    age="years",
    gender="sex",
    group="session",
    ages={"60+": (60, 75)},
    check_files=True,
)
print(f"{len(faces.data)} pictures, {len(faces.excluded)} excluded:")
for path, reason in zip(faces.excluded.path, faces.excluded.reason, strict=True):
    print(f"  {Path(path).name:32} {reason}")

# %%
# Copies
# ------
# One picture is in the table twice, with two names and in two sessions. The table does not show
# this, but the content of the files does. ``duplicate_groups`` finds equal files, and
# ``connected_groups`` joins them with the sessions of the table: pictures that either of them links
# stay together in every split. (If the same person is in several sessions, pass a column of persons
# to ``connected_groups`` too.)

from agegender.model_selection import connected_groups, duplicate_groups

copies = duplicate_groups(faces.data)
groups = connected_groups(faces.groups, copies)
print(f"{len(faces.data) - len(set(copies))} copy among {len(faces.data)} pictures")
print(f"{len(set(faces.groups))} sessions in the table, {len(set(groups))} groups")

# %%
# Describe
# --------
# Before training, count the pictures per age and gender. A model learns the ages that it sees, and
# if there are few pictures of an age, the error is large there. Here all ages are equally frequent,
# because the faces were drawn so. In collections of photographs they are not.

from agegender.datasets import describe

summary = describe(faces.frame.assign(group=groups))
print(summary)

# %%
# The same as a figure. If a bar is much lower than its neighbours, more pictures of that age help
# most. (If there are too many pictures of one age, see :func:`~agegender.datasets.balance_ages` or
# ``AgeGenderClassifier(balance="age")``.)

import matplotlib.pyplot as plt

by_decade = summary.by_decade
figure, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
left = pd.Series(0, index=by_decade.index)
for gender, color in zip(by_decade.columns, ("#0072B2", "#E69F00"), strict=True):
    name = faces.gender_names[gender]
    ax.bar(by_decade.index + 5, by_decade[gender], bottom=left, width=8.5, label=name, color=color)
    left = left + by_decade[gender]
ax.set(xlabel="Age (years)", ylabel="Pictures", xticks=by_decade.index)
ax.spines[["top", "right"]].set_visible(False)
figure.legend(loc="outside upper right", ncols=2, frameon=False)
plt.show()

# %%
# Cross-validate, then train on everything
# ----------------------------------------
# In cross-validation, each picture is predicted by a model that has not seen its session. The final
# model is trained on all pictures.

from sklearn.model_selection import cross_validate

from agegender import AgeGenderClassifier, AgeGenderPipeline, EmbeddingExtractor
from agegender.metrics import SCORERS
from agegender.model_selection import AgeGenderKFold

model = AgeGenderPipeline(
    EmbeddingExtractor("compact", cache=work / "cache", on_error="nan"),
    AgeGenderClassifier(random_state=0),
)
scores = cross_validate(model, faces.data, faces.target, groups=groups, cv=AgeGenderKFold(3), scoring=SCORERS)
print(f"age: mean absolute error {-scores['test_neg_age_mae'].mean():.1f} years")
print(f"gender: accuracy {100 * scores['test_gender_accuracy'].mean():.0f} %")
model.fit(faces.data, faces.target, groups=groups)
print(f"trained on all {len(faces.data)} pictures, {model.classifier_.n_epochs_} epochs")

# %%
# A damaged picture
# -----------------
# With ``on_error="nan"``, a picture that cannot be read gives a row of NaN. The others are
# predicted, and the report of the extractor contains the reason. The default, ``"raise"``, raises
# an error that names the picture.

half = work / "photos/half.jpg"
content = Path(faces.data[0]).read_bytes()
half.write_bytes(content[: len(content) // 2])
print(model.predict_frame([faces.data[0], half, faces.data[1]]).round(1).to_string())
for failure in model.extractor_.report_.failures:
    print(f"picture {failure.index}, {Path(failure.picture).name}: {failure.reason}")

folder.cleanup()
