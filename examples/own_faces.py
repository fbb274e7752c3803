"""Train, cross-validate, save and use a predictor on a folder of faces.

    python own_faces.py UTKFace/ arcface             # deepface's ArcFace, its weights fetched by deepface
    python own_faces.py UTKFace/ my_network.onnx     # any face network as an ONNX file
    python own_faces.py                              # drawn faces, random filters: nothing is fetched

The last form shows that everything works; its figures mean nothing.
"""

import sys
import tempfile
from pathlib import Path

import joblib
from sklearn.model_selection import cross_validate

from agegender import AgeGenderClassifier, AgeGenderPipeline, Backbone, DenseHead, EmbeddingExtractor
from agegender.datasets import load_utkface, make_faces
from agegender.metrics import SCORERS
from agegender.model_selection import AgeGenderKFold


def random_network():
    import keras

    keras.utils.set_random_seed(0)
    layers = [keras.layers.Conv2D(channels, 3, strides=2, activation="relu") for channels in (16, 32, 64)]
    layers += [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(32)]
    return Backbone.from_keras(keras.Sequential([keras.Input((64, 64, 3)), *layers]), name="random")


def main(folder=None, network=None):
    work = Path(tempfile.mkdtemp())
    if folder is None:
        make_faces(300, work / "faces")
    faces = load_utkface(folder or work / "faces")
    print(f"{len(faces.data)} pictures, {len(faces.excluded)} left out")

    backbone = Backbone.load(network) if network else random_network()
    model = AgeGenderPipeline(
        EmbeddingExtractor(backbone, verbose=1),
        AgeGenderClassifier(DenseHead(units=(64,)), random_state=0),
    )
    scores = cross_validate(
        model, faces.data, faces.target, groups=faces.groups, cv=AgeGenderKFold(3), scoring=SCORERS
    )
    print(f"age MAE {-scores['test_neg_age_mae'].mean():.1f} years")
    print(f"gender {100 * scores['test_gender_accuracy'].mean():.0f} %")

    model.fit(faces.data, faces.target, groups=faces.groups)
    joblib.dump(model, work / "model.joblib")
    print(joblib.load(work / "model.joblib").predict_frame(faces.data[:3]))


if __name__ == "__main__":
    main(*sys.argv[1:])
