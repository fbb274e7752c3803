"""``agegender demo``, run as a newcomer runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agegender import load_model
from agegender.datasets import load_utkface

Shown = tuple[Path, subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    folder = tmp_path_factory.mktemp("demo")
    environment = os.environ | {"AGEGENDER_HOME": str(folder / "home"), "COLUMNS": "160", "NO_COLOR": "1"}
    command = [sys.executable, "-c", "from agegender.cli import main; main()", "demo", "--n", "60", "--quiet"]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=folder, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder, done


def test_the_table_has_a_row_a_fold_and_the_output_says_what_it_is_worth(shown: Shown) -> None:
    output = shown[1].stdout
    rows = [row.split()[1] for row in output.splitlines() if row[:1] in "│|" and " %" in row]
    assert rows == ["1", "2", "3", "4", "5", "mean"]
    assert "say nothing about people" in output
    for made in ("faces", "model.agegender", "contact_sheet.png", "age_errors.png"):
        assert f"agegender-demo/{made}:" in output.replace(os.sep, "/")


def test_the_faces_have_labels_and_the_saved_model_predicts_them(shown: Shown) -> None:
    made = shown[0] / "agegender-demo"
    faces = load_utkface(made / "faces")
    assert len(faces.data) == 60
    predicted = load_model(made / "model.agegender").predict(faces.data)
    errors, guessing = (
        np.abs(faces.target[:, 0] - ages) for ages in (predicted[:, 0], faces.target[:, 0].mean())
    )
    assert errors.mean() < 0.8 * guessing.mean()


def test_the_pictures_are_whole_and_not_blank(shown: Shown) -> None:
    for name, least_width in (("contact_sheet.png", 1200), ("age_errors.png", 900)):
        with Image.open(shown[0] / "agegender-demo" / name) as picture:
            assert picture.width >= least_width
            assert np.asarray(picture.convert("L")).std() > 10


def test_nothing_is_left_in_the_user_s_cache(shown: Shown) -> None:
    assert not (shown[0] / "home" / "embeddings.sqlite").exists()
