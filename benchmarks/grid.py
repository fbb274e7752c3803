"""A grid search over heads with the cache of embeddings, and the same search without it.

    python benchmarks/grid.py --backbone facenet512_weights.h5 --name Facenet512
    python benchmarks/grid.py --backbone mobilefacenet_arcface.onnx --mean 0 --scale 1

Twelve dense heads in five folds over drawn faces, and the refit of the best: `GridSearchCV` fits 61 pipelines, each
of which sees every picture. The cache is new and empty, so the search with it pays for the network once. Both
searches must end with the same scores.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from sklearn.model_selection import GridSearchCV

from agegender import AgeGenderClassifier, AgeGenderPipeline, EmbeddingExtractor
from agegender.backbones import Backbone
from agegender.datasets import make_faces
from agegender.model_selection import AgeGenderKFold

GRID = {
    "classifier__head__units": [(64,), (256,), (256, 64)],
    "classifier__head__dropout": [0.0, 0.3],
    "classifier__learning_rate": [1e-3, 3e-3],
}


def search(backbone: Backbone, cache: Path | None, epochs: int) -> GridSearchCV:
    pipeline = AgeGenderPipeline(
        EmbeddingExtractor(backbone, cache=cache), AgeGenderClassifier(epochs=epochs, random_state=0)
    )
    return GridSearchCV(pipeline, GRID, cv=AgeGenderKFold(5))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", required=True, help="an .onnx file, or deepface's weights with --name")
    parser.add_argument("--name", help="deepface's name of the network, for its weights")
    parser.add_argument("--mean", type=float, default=127.5)
    parser.add_argument("--scale", type=float, default=1 / 128)
    parser.add_argument("--pictures", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=15)
    options = parser.parse_args()
    if options.name:
        backbone = Backbone.load(options.name, weights=options.backbone)
    else:
        backbone = Backbone.from_onnx(options.backbone, mean=options.mean, scale=options.scale)
    seconds, scores = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        faces = make_faces(options.pictures, folder)
        AgeGenderClassifier(epochs=1).fit(np.zeros((40, 4)), faces.target[:40])  # imports TensorFlow
        for way, cache in (("with the cache", Path(folder) / "cache.sqlite"), ("without", None)):
            started = time.perf_counter()
            fitted = search(backbone, cache, options.epochs).fit(faces.data, faces.target)
            seconds[way] = time.perf_counter() - started
            scores[way] = fitted.cv_results_["mean_test_score"]
            print(
                f"{way}: {seconds[way]:.0f} s, best age MAE {-fitted.best_score_:.2f} years",
                flush=True,
            )
    with_cache, without = seconds.values()
    same = "equal" if np.allclose(*scores.values(), atol=1e-4) else "NOT EQUAL"
    print(f"{options.pictures} pictures: {without / with_cache:.1f} times as fast; scores are {same}")


if __name__ == "__main__":
    main()
