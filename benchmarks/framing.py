"""What it costs to train on tight crops and to predict on aligned photographs, and what matching framings bring.

    python benchmarks/framing.py UTKFace/ mobilefacenet_arcface.onnx --mean 0 --scale 1

Two predictors with one head are trained on UTKFace's crops, taken as they are and brought into the framing of
aligned faces. Other crops are hidden in larger pictures, turned, scaled and shifted, for a detector to find again.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from pathlib import Path

import cv2
import numpy as np

from agegender import AgeGenderClassifier, AgeGenderPipeline, Backbone, DenseHead, EmbeddingExtractor
from agegender.datasets import load_utkface
from agegender.metrics import age_cumulative_score, age_mae, gender_accuracy
from agegender.model_selection import AgeGenderKFold

CANVAS = (480, 640)


def main() -> None:
    options = read_options()
    data = load_utkface(options.data)
    train, test = split(data, options.n_train, options.n_test)
    backbone = Backbone.from_onnx(options.network, mean=options.mean, scale=options.scale)
    with tempfile.TemporaryDirectory() as folder:
        photographs = hide(data.data[test], Path(folder))
        models = {}
        for framing in (None, "utkface"):
            extractor = EmbeddingExtractor(
                backbone, layer=options.layer, framing=framing, cache=options.cache, on_error="nan"
            )
            head = AgeGenderClassifier(DenseHead(units=(256,)), random_state=0)
            model = AgeGenderPipeline(extractor, head)
            models[framing] = model.fit(data.data[train], data.target[train], groups=data.groups[train])
        plain, framed = models[None], models["utkface"]
        print(f"framing measured in the crops, of 200 pixels:\n{plain.extractor_.framing_ * 200}")
        predictions = {
            "plain, tested on crops as they are": plain.predict(data.data[test]),
            "plain, on photographs as they are": plain.predict(photographs),
            "plain, on faces aligned as for face recognition": forgetful(plain).predict(
                photographs, faces=options.faces
            ),
            "plain, on faces aligned to the measured framing": plain.predict(
                photographs, faces=options.faces
            ),
            'framing="utkface", on crops': framed.predict(data.data[test]),
            'framing="utkface", on aligned faces': framed.predict(photographs, faces=options.faces),
        }
    show(predictions, data.target[test])


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", help="folder of pictures named as in UTKFace")
    parser.add_argument("network", help="an .onnx file")
    parser.add_argument("--mean", type=float, default=127.5)
    parser.add_argument("--scale", type=float, default=1 / 128)
    parser.add_argument("--layer", default="auto")
    parser.add_argument("--faces", default="auto", help="auto, yunet, mtcnn or a YuNet file")
    parser.add_argument("--n-train", type=int, default=6000)
    parser.add_argument("--n-test", type=int, default=1500)
    parser.add_argument("--cache", default="auto")
    return parser.parse_args()


def split(data, n_train: int, n_test: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows to train on and others to test on, copies on one side."""
    train, test = next(AgeGenderKFold(5, random_state=0).split(data.data, data.target, data.groups))
    rng = np.random.default_rng(0)
    return rng.permutation(train)[:n_train], rng.permutation(test)[:n_test]


def hide(paths, folder: Path) -> list[str]:
    """Put each crop somewhere into a larger picture, turned by up to 20 degrees, and return the new files."""
    rng = np.random.default_rng(1)
    hidden = []
    for number, path in enumerate(paths):
        crop = cv2.imread(str(path))
        side, angle = crop.shape[0], rng.uniform(-20, 20)
        scale = rng.uniform(0.7, 1.6) * 200 / side
        matrix = cv2.getRotationMatrix2D((side / 2, side / 2), angle, scale)
        reach = 0.72 * side * scale  # half the diagonal
        middle = [rng.uniform(min(reach, s / 2), max(s - reach, s / 2)) for s in CANVAS[::-1]]
        matrix[:, 2] += np.array(middle) - side / 2
        picture = cv2.warpAffine(
            crop, matrix, CANVAS[::-1], flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE
        )
        hidden.append(str(folder / f"{number}.jpg"))
        cv2.imwrite(hidden[-1], picture, [cv2.IMWRITE_JPEG_QUALITY, 95])
    return hidden


def forgetful(model: AgeGenderPipeline) -> AgeGenderPipeline:
    """Return the model as if it did not know the framing of its training crops."""
    model = copy.copy(model)
    model.extractor_ = copy.copy(model.extractor_)
    del model.extractor_.framing_
    return model


def show(predictions: dict[str, np.ndarray], truth: np.ndarray) -> None:
    found = np.all([np.isfinite(predicted[:, 0]) for predicted in predictions.values()], axis=0)
    print(f"{found.sum()} of {len(truth)} faces found; figures on these")
    print("| model, and what it is tested on | age MAE | bias | CS@5 | gender |\n|---|---|---|---|---|")
    for name, predicted in predictions.items():
        true, guess = truth[found], predicted[found]
        print(
            f"| {name} | {age_mae(true, guess):.2f} | {np.mean(guess[:, 0] - true[:, 0]):+.2f} "
            f"| {100 * age_cumulative_score(true, guess):.1f} % | {100 * gender_accuracy(true, guess):.1f} % |"
        )


if __name__ == "__main__":
    main()
