"""
A real photograph: detect, embed, predict
=========================================

The other examples draw their faces. This one uses a real photograph: scikit-image's
``data.astronaut()``, the astronaut Eileen Collins, photographed by NASA and in the public domain.
It comes with scikit-image, so nothing is downloaded.

We detect the face, look at what the network sees, compute the embedding, and predict age and
gender.
"""

# %%
# Detect
# ------
# :func:`~agegender.faces.detect` returns all faces, the largest first, with a box and five
# landmarks. ``"mtcnn"`` always works without a download; ``"auto"``, the default, prefers YuNet if
# its file is on your machine.

import matplotlib.pyplot as plt
import skimage.data

from agegender.faces import detect, load_detector

photograph = skimage.data.astronaut()
detector = load_detector("mtcnn")
faces = detect(photograph, detector=detector)
face = faces[0]
print(f"{len(faces)} face at ({face.x:.0f}, {face.y:.0f}), {face.width:.0f} × {face.height:.0f} pixels")

# %%
# Look at what the network sees
# -----------------------------
# The layer ``"input"`` is the aligned and cropped face at the network's input size. If predictions
# look wrong, look at this picture first: faces must be upright, and framed like those that the
# model was trained on.

from agegender import EmbeddingExtractor

seen = EmbeddingExtractor("compact", layer="input", faces=detector, cache=None).transform([photograph])[0]
figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3.6), layout="constrained")
left.imshow(photograph)
left.add_patch(
    plt.Rectangle((face.x, face.y), face.width, face.height, fill=False, color="#D55E00", linewidth=2)
)
left.plot(*face.landmarks.T, "o", color="#D55E00", markersize=3)
left.set_title("detected")
right.imshow(seen)
right.set_title(f"the network's input, {seen.shape[0]} × {seen.shape[1]} pixels")
for ax in (left, right):
    ax.axis("off")
plt.show()

# %%
# Embed
# -----
# One row per picture: a vector that a head can be trained on. ``"compact"`` is the small network
# inside the package.

extractor = EmbeddingExtractor("compact", layer="penultimate", faces=detector, cache=None)
embedding = extractor.transform([photograph])
print(f"embedding of shape {embedding.shape}, {embedding.dtype}")

# %%
# Predict
# -------
# The pretrained model predicts a distribution over the years 0 to 100. The predicted age is its
# mean. For nine of ten pictures like those of its training data, the true age lies within the
# interval.

from agegender import load_pretrained
from agegender.calibration import calibration_of
from agegender.plots import AgeDistributionDisplay

model = load_pretrained()
table = model.predict_faces([photograph], faces=detector)
print(table.drop(columns="picture").round(2).to_string(index=False))

ages, genders = model.predict_proba([photograph], faces=detector)
AgeDistributionDisplay.from_predictions(None, ages, calibration=calibration_of(model), names=["predicted"])
plt.show()

# %%
# This is one picture, so it says nothing about how accurate the model is: on held-out pictures of
# UTKFace, its mean absolute error is 4.36 years (:doc:`/compact`). An age that is predicted from a
# face is an estimate of how old somebody looks on one photograph. See :doc:`/responsible_use` for
# what it must not be used for.
#
# From the command line, the same is ``agegender predict astronaut.png --annotate seen/``.
