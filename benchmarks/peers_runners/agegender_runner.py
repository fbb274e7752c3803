"""Predict with this library: PATHS.json OUTPUT.json NAME, of a pretrained model, a safe file or a baseline."""

import json
import sys
import time
from pathlib import Path

paths, model_name = json.loads(Path(sys.argv[1]).read_text()), sys.argv[3]


def load(name):
    if name in ("deepface", "insightface"):
        from agegender.baselines import load_baseline

        return load_baseline(name)
    from agegender import load_model, load_pretrained

    model = load_model(name) if Path(name).is_file() else load_pretrained(name)
    model.extractor_.cache = None
    return model


def read(paths):
    frame = model.predict_frame(paths, **options)
    sure = frame["gender_proba"] if "gender_proba" in frame else frame["gender"] * 0 + 1
    female = sure.where(frame["gender"] == 1, 1 - sure)
    return [list(row) for row in zip(frame["age"].tolist(), female.tolist(), strict=True)]


model = load(model_name)
options = {} if model_name in ("deepface", "insightface") else {"faces": None}
rows = read(paths[:1])
started = time.process_time()
rows += read(paths[1:]) if len(paths) > 1 else []
Path(sys.argv[2]).write_text(json.dumps({"rows": rows, "cpu": time.process_time() - started}))
