"""
A network of your own
=====================

Any network that takes pictures can take the place of ArcFace or FaceNet, as a Keras model or as an
ONNX file. What has to be known of it is what it is fed: the order of colours, and how the values 0
… 255 become the numbers that it was trained on. Wrong colours or a wrong scale raise no error. They
only make everything a little worse, which is why they are said once, where the network is made a
:class:`~agegender.Backbone`, and belong to its identity from then on.

The networks of this page have **random weights**, for nothing is downloaded here; with
``weights="imagenet"`` the same lines fetch what Keras publishes. Even random filters tell drawn
faces apart somewhat. Of photographs, use a network that has learnt faces.
"""

import tempfile
import warnings
from pathlib import Path

import keras
import numpy as np

from agegender import AgeGenderClassifier, AgeGenderPipeline, Backbone, EmbeddingExtractor
from agegender.datasets import make_faces
from agegender.model_selection import grouped_split

folder = tempfile.TemporaryDirectory()
work = Path(folder.name)
faces = make_faces(300, work / "faces", size=100)
train, test = grouped_split(faces.target, faces.groups, test_size=0.3)

# %%
# A Keras Applications network
# ----------------------------
# MobileNetV2 expects values from −1 to 1. A backbone is fed (x − mean)·scale for x from 0 to 255,
# so that is mean 127.5 and scale 1/127.5. Without its top, and with ``pooling="avg"``, its output
# is one vector a picture.

keras.utils.set_random_seed(0)
size = {"include_top": False, "weights": None, "input_shape": (64, 64, 3)}
mobile = keras.applications.MobileNetV2(alpha=0.35, pooling="avg", **size)
coarse = Backbone.from_keras(mobile, name="MobileNetV2", mean=127.5, scale=1 / 127.5)
print(f"takes {coarse.input_size} pixels")
for layer in ("feature_map", "embedding"):
    print(f"{layer:12} {coarse.output_shape(layer)}")

# %%
# A first stride of 1
# -------------------
# A map of 2 × 2 positions: the network was made for pictures of 224 pixels and halves them five
# times. Faces are often smaller. The report that this library began with set the first stride to 1,
# which doubles all maps that follow and changes no weight, for the filters stay what they are. In
# Keras that is a clone with one layer's configuration changed:


def with_first_stride_1(layer):
    config = layer.get_config()
    if layer.name == "Conv1":
        config["strides"] = 1
    return type(layer).from_config(config)


denser = keras.models.clone_model(mobile, clone_function=with_first_stride_1)
denser.set_weights(mobile.get_weights())
dense = Backbone.from_keras(denser, name="first stride 1", mean=127.5, scale=1 / 127.5)
print("feature_map ", dense.output_shape("feature_map"))

# %%
# It costs four times the arithmetic, and whether it helps is for the test to say. (With learnt
# weights it has to be tried in any case: the filters were learnt at the other scale.)
#
# A network by ONNX file
# ----------------------
# Most face networks are published as ONNX files: InsightFace's MobileFaceNet, ArcFace on ResNets,
# the EfficientNet family. They need no framework but ONNX Runtime, and are faster for it. With such
# a file one line is all, say ``Backbone.from_onnx("mobilefacenet.onnx", mean=0.0, scale=1.0)``
# where the graph normalises by itself; but here we have to make one first: an EfficientNetV2, cut
# in the middle, where random filters have said all they can. It is exported without Keras' own
# preprocessing, whose constants the exporter would turn into further inputs. What that
# preprocessing would have done is said to ``from_onnx``, as three numbers each, one a colour.

efficient = keras.applications.EfficientNetV2B0(include_preprocessing=False, **size)
middle = keras.layers.GlobalAveragePooling2D()(efficient.get_layer("block5e_add").output)
cut = keras.Model(efficient.input, middle)
cut(keras.ops.zeros((1, 64, 64, 3)))  # Keras exports what has been called once
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Keras' exporter has some of its own
    cut.export(work / "efficient.onnx", format="onnx", verbose=False)

imagenet_mean, imagenet_sd = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
exported = Backbone.from_onnx(
    work / "efficient.onnx",
    name="EfficientNetV2",
    mean=255 * imagenet_mean,
    scale=1 / (255 * imagenet_sd),
)
print(f"takes {exported.input_size} pixels, gives {exported.output_shape('embedding')}")

# %%
# How far do they get?
# --------------------
# A backbone of your own goes wherever a name would. Each of them under the same head, and beside
# them the small network of the package, which has learnt faces, although none that were drawn. A
# network earns its place by this figure alone: how deep it is, or how well it does on other
# pictures, says little.

from agegender.metrics import age_mae, gender_accuracy

truth, errors = faces.target[test], {}
for backbone in (coarse, dense, exported, Backbone.load("compact")):
    model = AgeGenderPipeline(
        EmbeddingExtractor(backbone, cache=work / "cache"),
        AgeGenderClassifier(learning_rate=3e-3, random_state=0),
    )
    model.fit(faces.data[train], faces.target[train])
    predicted = model.predict(faces.data[test])
    errors[backbone.name] = age_mae(truth, predicted)
    right = 100 * gender_accuracy(truth, predicted)
    print(f"{backbone.name:15} age off by {errors[backbone.name]:4.1f} years, gender right in {right:.0f} %")

import matplotlib.pyplot as plt

guess = age_mae(truth[:, 0], np.full(len(test), np.median(faces.target[train, 0])))
figure, ax = plt.subplots(figsize=(6, 2.6), layout="constrained")
bars = ax.barh(list(errors)[::-1], list(errors.values())[::-1], color="#0072B2")
ax.bar_label(bars, fmt="{:.1f}", padding=3)
ax.axvline(guess, color="#8a9099", linestyle="--")
ax.text(guess, 3.6, "always the same guess ", ha="right", va="bottom", color="#30343b")
ax.set(xlabel="Age MAE (years)", ylim=(-0.5, 4.1))
ax.spines[["top", "right"]].set_visible(False)
plt.show()

folder.cleanup()
