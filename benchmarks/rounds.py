"""The report's three trainings, each on a freshly drawn split: how much of the falling error is leak.

    python benchmarks/rounds.py UTKFace/ --backbone mobilefacenet_arcface.onnx --mean 0 --scale 1

A softmax layer on the flattened feature map, as in the report, is trained three times in a row. Each training draws a
fifth of its pictures anew for validation and begins with the weights of the one before, so that most of a later
validation part has been trained on. The same weights are measured twice: on that validation part, as the report did,
and on a fifth of the data that was set aside, copies and near-copies with it, before the first training.
"""

from __future__ import annotations

import argparse

import numpy as np
from accuracy import add_backbone_options, backbone_of, load

from agegender import DenseHead, EmbeddingExtractor
from agegender.metrics import age_mae, expected_age

N_ROUNDS = 3
HEADS = {
    "softmax on the feature map": ("feature_map", DenseHead()),
    "256 hidden units on the penultimate layer": ("penultimate", DenseHead(units=(256,))),
}


def error(model: object, X: np.ndarray, y: np.ndarray) -> float:
    ages, _ = model.predict(X, batch_size=1024, verbose=0)
    return age_mae(y[:, 0], expected_age(ages))


def rounds(
    head: DenseHead, X: np.ndarray, y: np.ndarray, pool: np.ndarray, test: np.ndarray, epochs: int, seed: int
) -> list[tuple[float, float]]:
    """Return, after each training, the error on its own validation part and on the pictures set aside."""
    import keras

    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    model = head(X.shape[1:], 101, 2)
    model.compile(keras.optimizers.Adam(1e-3), loss=["sparse_categorical_crossentropy"] * 2)
    found = []
    for _ in range(N_ROUNDS):
        order = rng.permutation(pool)
        validation, training = np.split(order, [len(order) // 5])
        labels = [y[training, 0].astype(int), y[training, 1].astype(int)]
        model.fit(X[training], labels, batch_size=256, epochs=epochs, verbose=0)
        found.append((error(model, X[validation], y[validation]), error(model, X[test], y[test])))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_backbone_options(parser)
    parser.add_argument("--epochs", type=int, default=15, help="epochs of each training")
    parser.add_argument("--folds", type=int, default=3, help="fifths of the data set aside in turn")
    args = parser.parse_args()
    bb = backbone_of(args)
    data = load(args.directory, bb)
    print("| head | error, years | first | second | third training |\n|---|---|---|---|---|")
    for name, (layer, head) in HEADS.items():
        X = EmbeddingExtractor(bb, layer=layer).transform(data.pictures)
        X = X.reshape(len(X), -1)
        found = np.array(
            [
                rounds(head, standardized(X, pool), data.target, pool, test, args.epochs, seed)
                for seed, (pool, test) in enumerate(data.folds()[: args.folds])
            ]
        ).mean(axis=0)
        for kind, errors in zip(("its own validation part", "pictures set aside"), found.T, strict=True):
            print(f"| {name} | {kind} | {' | '.join(f'{value:.2f}' for value in errors)} |", flush=True)


def standardized(X: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Bring each feature to mean 0 and deviation 1, as measured on some rows."""
    sample = X[rows[::4]]
    return (X - sample.mean(axis=0)) / (sample.std(axis=0) + 1e-3)


if __name__ == "__main__":
    main()
