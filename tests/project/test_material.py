"""Where the tests look for real photographs and weights."""

from __future__ import annotations

from pathlib import Path

import material
import pytest
from material import Material


def test_the_environment_variable_names_the_folder(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AGEGENDER_TEST_DATA", str(tmp_path))
    (tmp_path / "weights").mkdir()
    assert Material() / "weights" == tmp_path / "weights"


def test_a_named_folder_that_is_not_there_is_an_error(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AGEGENDER_TEST_DATA", str(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError, match=r"AGEGENDER_TEST_DATA=.*gone.*CONTRIBUTING"):
        Material()


@pytest.mark.parametrize("named", [None, ""])
def test_without_the_variable_the_folder_beside_the_checkout_is_used(
    monkeypatch, tmp_path: Path, named: str | None
) -> None:
    monkeypatch.delenv("AGEGENDER_TEST_DATA", raising=False)
    if named is not None:
        monkeypatch.setenv("AGEGENDER_TEST_DATA", named)
    monkeypatch.setattr(material, "BESIDE_THE_CHECKOUT", tmp_path)
    assert Material() / "" == tmp_path


def test_a_file_that_is_missing_skips_the_test_and_is_named(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(material, "BESIDE_THE_CHECKOUT", tmp_path / "shared")
    monkeypatch.delenv("AGEGENDER_TEST_DATA", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"weights/network\.onnx.*AGEGENDER_TEST_DATA"):
        Material() / "weights/network.onnx"
