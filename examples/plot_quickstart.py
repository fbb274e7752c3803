"""
Quickstart
==========

From a folder of labelled faces to a model that predicts age and gender, in scikit-learn's manner:
make an estimator, ``fit`` it, ``predict`` with it, save it.

The faces are drawn by :func:`~agegender.datasets.make_faces`, so that nothing has to be downloaded.
They show no real person, and no figure on this page says anything about photographs. On those of
UTKFace, the same defaults with a face network of the usual size are off by 4.50 years on average
and right about gender in 94.1 %: see :doc:`/accuracy`.
"""

# %%
# Labelled faces
# --------------
# Every loader gives the same things: ``data``, the paths of the pictures; ``target``, a column of
# ages in years and one of genders (0 male, 1 female); ``groups``, which tells copies of a picture.
# For a folder of UTKFace the next line would be ``load_utkface("UTKFace/")``.

import tempfile
from pathlib import Path

from agegender.datasets import make_faces

folder = tempfile.TemporaryDirectory()
work = Path(folder.name)
faces = make_faces(600, work / "faces")
print(faces.frame[["age", "gender", "race"]].head(3))

# %%
# Look at the pictures before anything else. Faces should fill the picture, and all of them about
# alike.

import matplotlib.pyplot as plt
from PIL import Image

figure, axes = plt.subplots(2, 5, figsize=(7.5, 3.5), layout="constrained")
for ax, path, (age, gender) in zip(axes.flat, faces.data, faces.target, strict=False):
    ax.imshow(Image.open(path))
    ax.set_title(f"{faces.gender_names[int(gender)]}, {age:.0f}", fontsize="medium")
    ax.axis("off")
plt.show()

# %%
# Fit
# ---
# A pipeline has two parts. The *extractor* shows each picture to a frozen face network, once, and
# keeps what it finds in a cache. The *classifier* trains a small head on that. Here the network is
# ``"compact"``, the one inside the package; ``"arcface"`` and ``"facenet"`` are larger ones. (The
# cache has a place of its own by default; here it is temporary.)
#
# A fifth of the faces is kept for the test. ``grouped_split`` keeps copies of a picture on one
# side, which scikit-learn's ``train_test_split`` does not.

from agegender import AgeGenderClassifier, AgeGenderPipeline, EmbeddingExtractor
from agegender.model_selection import grouped_split

train, test = grouped_split(faces.target, faces.groups, test_size=0.2)
model = AgeGenderPipeline(
    EmbeddingExtractor("compact", cache=work / "cache"),
    AgeGenderClassifier(random_state=0),
)
model.fit(faces.data[train], faces.target[train])
print(f"{model.classifier_.n_epochs_} epochs; training stopped by itself")

# %%
# Predict
# -------
# ``predict`` gives what scikit-learn wants, one row of age and gender a picture.

from agegender.metrics import age_mae, gender_accuracy

predicted = model.predict(faces.data[test])
truth = faces.target[test]
print(f"age: off by {age_mae(truth, predicted):.1f} years on average")
print(f"gender: right for {100 * gender_accuracy(truth, predicted):.0f} % of {len(test)} faces")

# %%
# ``predict_frame`` gives what people want: the age with the interval that holds the true one for
# nine faces in ten, and the gender with its probability.

table = model.predict_frame(faces.data[test])
print(table.assign(true_age=truth[:, 0]).head().round(2).to_string())

# %%
# One figure tells more than an average: where is the model wrong, and in which direction? Bars are
# the mean error of each decade of age, dots say whether its people were taken for older (above
# zero) or for younger (below). The oldest are taken for younger: whoever is unsure stays near the
# middle. It is the same on photographs, where people above ninety are taken for ten years younger.

from agegender.plots import AgeErrorDisplay

AgeErrorDisplay.from_predictions(truth, predicted, kind="by_band")
plt.show()

# %%
# Save and load
# -------------
# A fitted model is one object, the network inside it included (up to 16 MB), and ``joblib`` saves
# it as it saves any estimator of scikit-learn's. A loaded model predicts the same numbers, without
# TensorFlow.
#
# Load joblib files of your own only: like every pickle, they run code when opened. For files that
# travel there are :func:`~agegender.save_model` and :func:`~agegender.load_model`, which do not.

import joblib

joblib.dump(model, work / "model.joblib")
loaded = joblib.load(work / "model.joblib")
print("the same predictions:", (loaded.predict(faces.data[test]) == predicted).all())
print(f"{(work / 'model.joblib').stat().st_size / 1e6:.1f} MB")

folder.cleanup()
