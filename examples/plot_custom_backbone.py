"""
Your own network
================

Any network that takes pictures can be used instead of ArcFace or FaceNet, as a Keras model or as an
ONNX file. You must know its input: the order of the colours, and how the values 0 … 255 are
normalised. If the colours or the scale are wrong, there is no error; all results are just a little
worse. So you state them once, when you make a :class:`~agegender.Backbone`, and they are part of
its identity.

The networks on this page have **random weights**, because nothing is downloaded here. With
``weights="imagenet"``, the same lines download what Keras publishes. Even random filters can
distinguish drawn faces to some degree. For photographs, use a network that was trained on faces.
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
# MobileNetV2 expects values from −1 to 1. The input of a backbone is (x − mean)·scale for x from 0
# to 255, so the mean is 127.5 and the scale 1/127.5. Without its top and with ``pooling="avg"``,
# the network returns one vector per picture.

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
# The map has only 2 × 2 positions, because the network was made for pictures of 224 pixels and
# halves them five times. Faces are often smaller. The report that this library started from set the
# first stride to 1. This doubles the size of all later maps and changes no weights. In Keras, it is
# a clone in which the configuration of one layer is changed:


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
# It takes four times as many operations, and only a test shows whether it helps. (With pretrained
# weights a test is needed too, because the filters were trained at the other scale.)
#
# A network from an ONNX file
# ---------------------------
# Most face networks are published as ONNX files: InsightFace's MobileFaceNet, ArcFace on ResNets,
# the EfficientNet family. They need only ONNX Runtime and run faster on it. With such a file, one
# line is enough, for example ``Backbone.from_onnx("mobilefacenet.onnx", mean=0.0, scale=1.0)`` if
# the graph contains its normalisation. Here we have to make a file first: an EfficientNetV2, cut in
# the middle, because random filters do not get better with depth. It is exported without Keras'
# preprocessing, because the exporter would turn its constants into additional inputs. Instead, we
# pass the preprocessing to ``from_onnx``, as one number per colour.

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
# Comparison
# ----------
# A backbone can be passed wherever a name can. We train the same head on each network, and on the
# small network of the package, which was trained on real faces, but not on drawn ones. Choose a
# network by such a comparison: its depth, or its results on other pictures, say little.

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
    print(f"{backbone.name:15} age MAE {errors[backbone.name]:4.1f} years, gender accuracy {right:.0f} %")

import matplotlib.pyplot as plt

guess = age_mae(truth[:, 0], np.full(len(test), np.median(faces.target[train, 0])))
figure, ax = plt.subplots(figsize=(6, 2.6), layout="constrained")
bars = ax.barh(list(errors)[::-1], list(errors.values())[::-1], color="#0072B2")
ax.bar_label(bars, fmt="{:.1f}", padding=3)
ax.axvline(guess, color="#8a9099", linestyle="--")
ax.text(guess, 3.6, "median of the training ages ", ha="right", va="bottom", color="#30343b")
ax.set(xlabel="Age MAE (years)", ylim=(-0.5, 4.1))
ax.spines[["top", "right"]].set_visible(False)
plt.show()

folder.cleanup()
