"""
Your own head
=============

The heads of the library are ordinary Keras models with a small interface, and you can write your
own: a callable that takes the shape of a row and the numbers of ages and genders, and returns a
model with two softmax outputs, the ages first. The classifier provides losses, early stopping,
calibration, saving and parameter search.

We write one head as a function, and one as a class that a grid search can tune. Then we look at its
attention.
"""

# %%
# As a function
# -------------
# Here age and gender each have a hidden layer. In the library's ``DenseHead`` they share it.

import tempfile
from pathlib import Path

import keras

from agegender import AgeGenderClassifier, AgeGenderPipeline, ConvHead, EmbeddingExtractor
from agegender.datasets import make_faces
from agegender.metrics import age_mae, gender_accuracy
from agegender.model_selection import grouped_split

folder = tempfile.TemporaryDirectory()
work = Path(folder.name)
faces = make_faces(400, work / "faces")
train, test = grouped_split(faces.target, faces.groups, test_size=0.25)


def two_towers(input_shape, n_ages, n_genders):
    inputs = keras.Input(input_shape)
    for_age = keras.layers.Dense(128, activation="relu")(inputs)
    for_gender = keras.layers.Dense(32, activation="relu")(inputs)
    outputs = [
        keras.layers.Dense(n_ages, activation="softmax")(for_age),
        keras.layers.Dense(n_genders, activation="softmax")(for_gender),
    ]
    return keras.Model(inputs, outputs)


extractor = EmbeddingExtractor("compact", cache=work / "cache")
model = AgeGenderPipeline(extractor, AgeGenderClassifier(two_towers, learning_rate=3e-3, random_state=0))
model.fit(faces.data[train], faces.target[train])


def tell(name, model):
    predicted, truth = model.predict(faces.data[test]), faces.target[test]
    age, gender = age_mae(truth, predicted), gender_accuracy(truth, predicted)
    print(f"{name:12} age MAE {age:.1f} years, gender accuracy {100 * gender:.0f} %")


tell("two towers", model)

# %%
# As a class
# ----------
# A class derived from scikit-learn's ``BaseEstimator`` has parameters. ``__init__`` only assigns
# them; then ``clone``, ``set_params`` and a grid search (``classifier__head__width``) work. The
# class can also state which layer of the network it reads, and how many dimensions a row of it has.
#
# This head reads the network's last *map*, 4 × 4 positions of 1,024 numbers. It learns which
# positions are important, separately for age and gender: a dense layer computes a score per
# position, a softmax over all positions turns scores into weights, and the output is the weighted
# mean.

from sklearn.base import BaseEstimator


class AttentionHead(BaseEstimator):
    layer = "feature_map"
    input_rank = 3

    def __init__(self, width=128, dropout=0.2):
        self.width = width
        self.dropout = dropout

    def __call__(self, input_shape, n_ages, n_genders):
        height, width, channels = input_shape
        maps = keras.Input(input_shape)
        rows = keras.layers.Reshape((height * width, channels))(maps)
        outputs = [self.output(rows, "age", n_ages), self.output(rows, "gender", n_genders)]
        return keras.Model(maps, outputs)

    def output(self, rows, name, size):
        scores = keras.layers.Dense(32, activation="tanh")(rows)
        scores = keras.layers.Dense(1)(scores)
        weights = keras.layers.Softmax(axis=1, name=f"{name}_weights")(scores)
        values = keras.layers.Flatten()(keras.layers.Dot(axes=1)([weights, rows]))
        values = keras.layers.Dense(self.width, activation="relu")(values)
        values = keras.layers.Dropout(self.dropout)(values)
        return keras.layers.Dense(size, activation="softmax", name=name)(values)


model = AgeGenderPipeline(extractor, AgeGenderClassifier(AttentionHead(), learning_rate=3e-3, random_state=0))
model.fit(faces.data[train], faces.target[train])
tell("attention", model)

# %%
# Attention
# ---------
# ``keras_model_`` is the fitted head, so you can use it like any Keras model. Its first layer
# standardises the rows; the classifier adds it to every head. Its last layer is the model that we
# returned. From that, we make a model that returns the weights:

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

head = model.classifier_.keras_model_
inner = head.layers[-1]
names = ["age_weights", "gender_weights"]
look = keras.Model(inner.input, [inner.get_layer(name).output for name in names])

shown = faces.data[test][:5]
rows = EmbeddingExtractor("compact", layer="feature_map", cache=work / "cache").transform(shown)
weights = [values.numpy().reshape(-1, 4, 4) for values in look(head.get_layer("standardize")(rows))]

figure, axes = plt.subplots(3, 5, figsize=(7.5, 4.9), layout="constrained")
lines = {"the picture": np.ones((5, 4, 4)), "for the age": weights[0], "for the gender": weights[1]}
for line, (what, values) in zip(axes, lines.items(), strict=True):
    for ax, path, attention in zip(line, shown, values, strict=True):
        picture = Image.open(path)
        weight = Image.fromarray(np.sqrt(attention / attention.max()).astype(np.float32))
        weight = np.array(weight.resize(picture.size))[:, :, None].clip(0.1, 1)
        ax.imshow(1 - weight * (1 - np.array(picture) / 255))
        ax.set(xticks=[], yticks=[])
    line[0].set_ylabel(what)
plt.show()

# %%
# Faded positions have small weights. (The positions of a map are not sharp: each has seen a large
# part of its surroundings.)
#
# Is this head better? No: the weighted mean loses the information *where* something was. The
# library's own head for maps, ``ConvHead(filters=(), depthwise="global", units=(128,))``, keeps it.
# With your own head, you can find this out within a minute.

conv = ConvHead(filters=(), depthwise="global", units=(128,))
model = AgeGenderPipeline(extractor, AgeGenderClassifier(conv, learning_rate=3e-3, random_state=0))
model.fit(faces.data[train], faces.target[train])
tell("ConvHead", model)

folder.cleanup()
