"""
Your own data: a folder and a table
===================================

Most people's faces are not in a famous data set but in a folder, with a table beside it that
somebody kept by hand. Such tables have gaps, typing errors and pictures that went missing.
:func:`~agegender.datasets.load_table` reads them, drops nothing in silence, and says why each row
that it leaves out was left out.

(Is your folder UTKFace, or named like it? Then :func:`~agegender.datasets.load_utkface` reads ages
and genders from the file names, and no table is needed.)
"""

# %%
# A table as they are
# -------------------
# We draw faces in place of photographs and write the table that goes with them: columns of its own
# names, an age band here and there, two spellings of gender, and the shoot that each picture comes
# from, for pictures of one shoot share light and background and are no independent witnesses. Then
# we break some of it.

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
        "shoot": [f"shoot {number // 3}" for number in range(len(drawn))],
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
# Name the columns. Paths begin at the table's folder. Bands such as "25-32" are understood, and
# taken as their midpoint; for "60+" we have to say what it stands for.

from agegender.datasets import load_table

faces = load_table(
    work / "people.csv",
    path="file",
    age="years",
    gender="sex",
    group="shoot",
    ages={"60+": (60, 75)},
    check_files=True,
)
print(f"{len(faces.data)} pictures, {len(faces.excluded)} left out:")
for path, reason in zip(faces.excluded.path, faces.excluded.reason, strict=True):
    print(f"  {Path(path).name:32} {reason}")

# %%
# Copies
# ------
# One picture is in the table twice, under two names and in two shoots. Nobody sees that in a table;
# the content of the files tells. ``duplicate_groups`` finds equal files, ``connected_groups`` joins
# them with the shoots of the table: whatever is linked by either stays on one side of every split
# from here on. (The same person in several shoots? Give ``connected_groups`` a column of persons as
# well.)

from agegender.model_selection import connected_groups, duplicate_groups

copies = duplicate_groups(faces.data)
groups = connected_groups(faces.groups, copies)
print(f"{len(faces.data) - len(set(copies))} copy among {len(faces.data)} pictures")
print(f"{len(set(faces.groups))} shoots in the table, {len(set(groups))} groups of what belongs together")

# %%
# Describe
# --------
# Before training: how many of whom? A model learns the ages that it sees, and few pictures of an
# age mean large errors there. Here every age is as frequent as any other, because these faces were
# drawn so. In collections of photographs it never is.

from agegender.datasets import describe

summary = describe(faces.frame.assign(group=groups))
print(summary)

# %%
# The same as a figure. A bar much lower than its neighbours is where more pictures are worth more
# than any other effort. (Too many of one age? :func:`~agegender.datasets.balance_ages`, or
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
# The score comes from models that never saw the shoot they are asked about. The model that is kept
# is trained on all of them.

from sklearn.model_selection import cross_validate

from agegender import AgeGenderClassifier, AgeGenderPipeline, EmbeddingExtractor
from agegender.metrics import SCORERS
from agegender.model_selection import AgeGenderKFold

model = AgeGenderPipeline(
    EmbeddingExtractor("compact", cache=work / "cache", on_error="nan"),
    AgeGenderClassifier(random_state=0),
)
scores = cross_validate(model, faces.data, faces.target, groups=groups, cv=AgeGenderKFold(3), scoring=SCORERS)
print(f"age: off by {-scores['test_neg_age_mae'].mean():.1f} years")
print(f"gender: right in {100 * scores['test_gender_accuracy'].mean():.0f} %")
model.fit(faces.data, faces.target, groups=groups)
print(f"trained on all {len(faces.data)} pictures, {model.classifier_.n_epochs_} epochs")

# %%
# A damaged picture
# -----------------
# ``on_error="nan"`` above is for the day when one of ten thousand pictures cannot be read: its row
# is NaN, the others are predicted, and the report of the extractor says what was wrong. The
# default, ``"raise"``, stops with an error that names the picture.

half = work / "photos/half.jpg"
content = Path(faces.data[0]).read_bytes()
half.write_bytes(content[: len(content) // 2])
print(model.predict_frame([faces.data[0], half, faces.data[1]]).round(1).to_string())
for failure in model.extractor_.report_.failures:
    print(f"picture {failure.index}, {Path(failure.picture).name}: {failure.reason}")

folder.cleanup()
