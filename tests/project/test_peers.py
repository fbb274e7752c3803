"""The benchmark of other packages: rows matched to pictures, scores, tables. Their own runners need the packages."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from conftest import write_drawn_faces

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "peers.py"

# Reads age and gender off the names of UTKFace, two years too old; finds no face in pictures of the ages given.
READS_NAMES = """
import json, sys
from pathlib import Path
paths, unseen = json.loads(Path(sys.argv[1]).read_text()), sys.argv[3:]
rows = []
for path in paths:
    age, gender = Path(path).name.split("_")[:2]
    rows.append(None if age in unseen else [float(age) + 2, 0.9 if gender == "1" else 0.2])
Path(sys.argv[2]).write_text(json.dumps({"rows": rows, "cpu": 0.5}))
"""


@pytest.fixture(scope="module")
def peers() -> ModuleType:
    spec = importlib.util.spec_from_file_location("peers", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["peers"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def runner(peers: ModuleType, tmp_path: Path):
    def make(code: str, *arguments: str):
        script = tmp_path / "runner.py"
        script.write_text(code)
        return peers.Predictor("reader", (sys.executable, str(script)), arguments)

    return make


def test_rows_are_matched_to_pictures_and_scored(peers, runner, tmp_path: Path) -> None:
    paths, y = peers.labelled(write_drawn_faces(tmp_path / "faces", 30, seed=3), None, 20)
    assert len(paths) == len(y) == 20
    assert [int(Path(path).name.split("_")[0]) for path in paths] == y[:, 0].tolist()
    found, seconds = runner(READS_NAMES).run(paths, tmp_path)
    assert seconds > 0
    scores, decades = peers.scored(found["rows"], y)
    assert scores["pictures"] == "20"
    assert scores["age MAE, years"] == "2.00 ± 0.00"
    assert scores["CS@5"] == scores["gender"] == "100.0%"
    assert set(decades.values()) == {"2.0"}

    unseen = {str(int(age)) for age in y[:3, 0]}
    some, _ = runner(READS_NAMES, *unseen).run(paths, tmp_path)
    left = [row is not None for row in some["rows"]]
    assert left == [str(int(age)) not in unseen for age in y[:, 0]]
    scores, _ = peers.scored(some["rows"], y)
    assert scores["pictures"] == str(sum(left))
    assert scores["gender"] == "100.0%"


def test_a_runner_that_fails_or_leaves_pictures_out_is_named(peers, runner, tmp_path: Path) -> None:
    (tmp_path / "reader.json").write_text(json.dumps({"rows": [[1.0, 0.5]], "cpu": 1.0}))
    with pytest.raises(peers.NotThere, match="ModuleNotFoundError: No module named 'no_such'"):
        runner("import no_such").run(["a.jpg"], tmp_path)
    short = READS_NAMES.replace('"rows": rows', '"rows": rows[1:]')
    with pytest.raises(peers.NotThere, match="2 rows for 3 pictures"):
        runner(short).run(["1_0.jpg", "2_0.jpg", "3_1.jpg"], tmp_path)


def test_a_table_has_a_dash_where_a_row_has_no_value(peers) -> None:
    assert peers.markdown({"one": {"a": "1"}, "two": {"b": "2"}}).splitlines() == [
        "| | a | b |",
        "|---|---|---|",
        "| one | 1 | – |",
        "| two | – | 2 |",
    ]
    rows = [[30.0, 0.4], [5.0, 0.5]]
    assert peers.scored(rows, np.array([[35, 0], [3, 1]]))[1] == {"0–9": "2.0", "30–39": "5.0"}
