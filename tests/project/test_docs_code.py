"""The guide's Python runs: cell after cell of a page, in a folder with the files that its readers have, drawn.

A cell below ``<!-- not run: why -->`` is left out; of five folds two are made.
"""

from __future__ import annotations

import copy
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
from conftest import write_drawn_faces
from matlab_files import save_v5

import agegender
from agegender import AgeGenderClassifier, AgeGenderPipeline, EmbeddingExtractor
from agegender.datasets import load_utkface, make_faces

DOCS = Path(__file__).parents[2] / "docs"
pytestmark = [
    pytest.mark.skipif(not DOCS.is_dir(), reason="the documentation is not beside the tests"),
    pytest.mark.filterwarnings("ignore:.*aligned|.*framed"),
]


def cells(page: Path) -> list[str]:
    found = re.findall(
        r"(<!-- not run: [^\n]+ -->\n)?```python\n(.*?)^```", page.read_text("utf-8"), re.S | re.M
    )
    return [code.replace("KFold(5)", "KFold(2)") for left_out, code in found if not left_out]


# The page on accuracy shows a piece of a script.
PAGES = [page for page in sorted(DOCS.glob("*.md")) if page.stem != "accuracy" and cells(page)]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages speak of: data sets, photographs, a table, a network's file."""
    folder = tmp_path_factory.mktemp("desk")
    drawn = make_faces(40, folder / "UTKFace", random_state=0, verbose=0)
    for number, name in enumerate(["anna", "holiday", "party", "face", "a", "stadium"]):
        shutil.copy(drawn.data[number], folder / f"{name}.jpg")
    for name in ("network", "mobilefacenet"):
        shutil.copy(Path(agegender.__file__).parent / "pretrained" / "compact.onnx", folder / f"{name}.onnx")
    (folder / "photos").mkdir()
    ages, genders = drawn.target[:, 0].astype(int), drawn.target[:, 1].astype(int)
    rows = []
    for number, path in enumerate(drawn.data):
        shutil.copy(path, folder / "photos" / f"{number}.jpg")
        band = "60+" if ages[number] >= 60 else f"({ages[number] // 10 * 10}, {ages[number] // 10 * 10 + 9})"
        rows.append((f"{number}.jpg", band, "HF"[genders[number]], number))
    pd.DataFrame(rows, columns=["file", "age_group", "sex", "person_id"]).to_csv(
        folder / "people.csv", index=False
    )
    (folder / "imdb_crop").mkdir()
    shutil.copy(drawn.data[0], folder / "imdb_crop" / "a.jpg")
    save_v5(
        folder / "imdb_crop" / "imdb.mat",
        "imdb",
        {
            "dob": [722_000.0], "photo_taken": np.array([2010], dtype=np.uint16), "full_path": ["a.jpg"],
            "gender": [0.0], "name": ["A"], "face_location": [np.array([1.0, 1.0, 9.0, 9.0])],
            "face_score": [4.0], "second_face_score": [np.nan], "celeb_names": ["A"], "celeb_id": [1.0],
        },
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def known(desk: Path) -> dict[str, Any]:
    """Names that the pages use without having made them."""
    faces = load_utkface(desk / "UTKFace")
    extractor = EmbeddingExtractor("compact", cache=None)
    model = AgeGenderPipeline(extractor, AgeGenderClassifier(epochs=2, random_state=0))
    training = load_utkface(write_drawn_faces(desk / "training", 40, seed=9))
    model.fit(training.data, training.target)
    paths = list(faces.data[:3])
    return {
        "model": model, "faces": faces, "paths": paths, "pictures": paths, "X": faces.data, "y": faces.target,
        "X_test": faces.data, "y_test": faces.target, "frame": faces.frame, "persons": np.arange(len(faces.data)),
        "weights": np.ones(len(faces.data)), "embeddings": extractor.transform(faces.data),
        "extractor": extractor,
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_of_the_guide_runs(
    page: Path, desk: Path, known: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(desk)
    names = copy.deepcopy(known) | {name: getattr(agegender, name) for name in agegender.__all__}
    with sklearn.config_context():
        for cell in cells(page):
            exec(compile(cell, page.name, "exec"), names)
