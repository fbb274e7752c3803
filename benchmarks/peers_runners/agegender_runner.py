"""Predict with this library: PATHS.json OUTPUT.json NAME, of a pretrained model, a safe file or a baseline."""

import json
import sys
import time
from pathlib import Path

paths, model_name = json.loads(Path(sys.argv[1]).read_text()), sys.argv[3]


def answers(name):
    """Return what takes paths to columns."""
    if name in ("deepface", "insightface"):
        from agegender.baselines import load_baseline

        baseline = load_baseline(name)
        return lambda some: baseline.predict_frame(some).to_dict("list")
    from agegender.inference import load, load_pretrained

    model = load(name, cache=None) if Path(name).is_file() else load_pretrained(name, cache=None)
    return lambda some: model.predict_columns(some, faces=None)


def read(some):
    columns = predict(some)
    sure = columns.get("gender_proba", [1.0] * len(some))
    women = [p if gender == 1 else 1 - p for gender, p in zip(columns["gender"], sure, strict=True)]
    return [[float(age), float(p)] for age, p in zip(columns["age"], women, strict=True)]


predict = answers(model_name)
rows = read(paths[:1])
started = time.process_time()
rows += read(paths[1:]) if len(paths) > 1 else []
Path(sys.argv[2]).write_text(json.dumps({"rows": rows, "cpu": time.process_time() - started}))
