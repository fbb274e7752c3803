"""How much of the picture's border is best trimmed: a grid search over the extractor's crop, drawn as a figure.

    python best_crop.py                                # drawn faces: nothing is fetched
    python best_crop.py UTKFace/ face_network.onnx     # real ones, with a network that takes raw RGB pixels

Each crop's pictures pass through the network once, whatever is searched beside it.
"""

import sys

import numpy as np
from matplotlib.figure import Figure
from sklearn.model_selection import GridSearchCV

from agegender import AgeGenderClassifier, AgeGenderPipeline, EmbeddingExtractor
from agegender.backbones import Backbone
from agegender.datasets import load_utkface, make_faces
from agegender.metrics import SCORERS
from agegender.model_selection import AgeGenderKFold

if len(sys.argv) > 2:
    faces, crops = load_utkface(sys.argv[1]), np.linspace(-0.15, 0.25, 9)
    network = Backbone.from_onnx(sys.argv[2], mean=0.0, scale=1.0)
else:
    faces, crops, network = make_faces(300, "drawn_faces", random_state=0), [-0.1, 0.0, 0.1, 0.2], "compact"

model = AgeGenderPipeline(EmbeddingExtractor(network), AgeGenderClassifier(random_state=0))
search = GridSearchCV(
    model,
    {"extractor__crop": crops},
    cv=AgeGenderKFold(5),
    scoring=SCORERS,
    refit=False,
)
search.fit(faces.data, faces.target, groups=faces.groups)

results = search.cv_results_
figure = Figure(figsize=(6, 4), layout="constrained")
axes = figure.add_subplot(
    xlabel="trimmed from every side, fraction (negative: padded)", ylabel="age MAE, years"
)
axes.errorbar(
    crops,
    -results["mean_test_neg_age_mae"],
    results["std_test_neg_age_mae"] / np.sqrt(5),
    marker="o",
    capsize=3,
)
right = axes.twinx()
right.set_ylabel("gender right, fraction (dashed)")
right.plot(crops, results["mean_test_gender_accuracy"], "s--", color="tab:orange")
axes.set_title(f"{len(faces.data):,} faces, five folds, mean ± standard error")
figure.savefig("best_crop.png", dpi=120)
for crop, error in zip(crops, -results["mean_test_neg_age_mae"], strict=True):
    print(f"crop {crop:+.2f}: {error:.2f} years")
print("best_crop.png shows it.")
