"""Compare heads and learning rates: however large the grid, each picture passes through the network once a layer."""

import tempfile

import keras
import pandas as pd
from sklearn.model_selection import GridSearchCV

from agegender import (
    AgeGenderClassifier,
    AgeGenderPipeline,
    Backbone,
    ConvHead,
    DenseHead,
    EmbeddingExtractor,
)
from agegender.datasets import make_faces
from agegender.metrics import SCORERS
from agegender.model_selection import AgeGenderKFold

# With deepface's weights at hand, EmbeddingExtractor("arcface") is all of this; random filters need no download.
keras.utils.set_random_seed(0)
layers = [keras.layers.Conv2D(channels, 3, strides=2, activation="relu") for channels in (16, 32, 64)]
layers += [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(32)]
backbone = Backbone.from_keras(keras.Sequential([keras.Input((64, 64, 3)), *layers]), name="random")

faces = make_faces(200, tempfile.mkdtemp())
search = GridSearchCV(
    AgeGenderPipeline(EmbeddingExtractor(backbone), AgeGenderClassifier(epochs=20, random_state=0)),
    {
        "classifier__head": [DenseHead(), DenseHead(units=(128,)), ConvHead()],
        "classifier__learning_rate": [3e-3, 1e-3],
    },
    cv=AgeGenderKFold(3),
    scoring=SCORERS,
    refit="neg_age_mae",
)
search.fit(faces.data, faces.target, groups=faces.groups)

table = pd.DataFrame(search.cv_results_)
columns = ["param_classifier__head", "param_classifier__learning_rate", "mean_test_neg_age_mae"]
print(table[[*columns, "mean_test_gender_accuracy"]].to_string(index=False))
print("best:", search.best_params_)
