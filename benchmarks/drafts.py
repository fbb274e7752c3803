"""What decoding JPEG photographs at a fraction of their sides saves, and what it does to embeddings.

    python benchmarks/drafts.py photos/ network.onnx:mean:scale yunet.onnx

Every photograph as it was taken, and enlarged to some 45 megapixels: cosines between the embeddings of each face from
the whole picture and from drafts; seconds and memory of one decoding and one `transform` of the largest.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from agegender import EmbeddingExtractor, images
from agegender.backbones import Backbone

DRAFTS = (1.0, 1.5, 2.0, 3.0, 4.0)
MEGAPIXELS = 45


def embed(network: str, detector: str, pictures: list[bytes], draft: float | None) -> list[np.ndarray]:
    """Return the embeddings of each picture's faces."""
    file, mean, scale = network.split(":")
    backbone = Backbone.from_onnx(file, mean=float(mean), scale=float(scale))
    extractor = EmbeddingExtractor(
        backbone, layer="embedding", faces=detector, draft=draft, cache=None, n_jobs=1, on_error="nan"
    )
    found, rows = extractor.transform_faces(pictures)
    ends = np.cumsum([len(faces) for faces in found])
    centres = [np.array([(f.x + f.width / 2, f.y + f.height / 2, f.width) for f in faces]) for faces in found]
    return list(zip(centres, np.split(rows, ends[:-1]), strict=True))


def cosines(whole: list, drafted: list) -> tuple[np.ndarray, int]:
    """Return the cosine of each face found in both, and the number of those found in one alone."""
    values, lost = [], 0
    for (places, rows), (others, drawn) in zip(whole, drafted, strict=True):
        for place, row in zip(places, rows, strict=True):
            apart = np.hypot(*(others[:, :2] - place[:2]).T) if len(others) else np.array([np.inf])
            if apart.min() > place[2] / 3:
                lost += 1
                continue
            other = drawn[apart.argmin()]
            values.append(row @ other / np.linalg.norm(row) / np.linalg.norm(other))
    return np.array(values), lost


def enlarged(content: bytes) -> bytes:
    """Return a photograph of some 45 megapixels."""
    with Image.open(io.BytesIO(content)) as picture:
        factor = (MEGAPIXELS * 1e6 / (picture.width * picture.height)) ** 0.5
        file = io.BytesIO()
        size = round(picture.width * factor), round(picture.height * factor)
        picture.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


def table(title: str, network: str, detector: str, pictures: list[bytes]) -> None:
    print(
        f"\n{title}\n\n| draft | faces that are drafted | median cosine | least | lost |\n|---|---|---|---|---|"
    )
    whole = embed(network, detector, pictures, None)
    for draft in DRAFTS:
        found, lost = cosines(whole, embed(network, detector, pictures, draft))
        moved = found[found < 1 - 1e-6]
        figures = f"{np.median(moved):.4f} | {moved.min():.4f}" if len(moved) else "– | –"
        print(f"| {draft:g} | {len(moved)} of {len(found)} | {figures} | {lost} |", flush=True)


def one(path: str, network: str, detector: str, draft: str) -> None:
    """Print seconds and the peak of memory of one picture; in a process of its own."""
    content, factor = Path(path).read_bytes(), None if draft == "whole" else float(draft)
    started = time.process_time()
    shrink = 1 if factor is None else images.shrink_factor(content, 1280, longer=True)
    images.decode(content, shrink=shrink)
    decoding, started = time.process_time() - started, time.process_time()
    embed(network, detector, [content], factor)
    status = Path("/proc/self/status").read_text()  # unlike getrusage, of this program alone
    peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024
    print(
        f"| {draft} | 1/{shrink} | {decoding:.2f} | {time.process_time() - started:.2f} | {peak:.0f} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("photos")
    parser.add_argument("network", help="file.onnx:mean:scale")
    parser.add_argument("detector")
    parser.add_argument("--one", default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one(arguments.photos, arguments.network, arguments.detector, arguments.one)
        return
    files = sorted(Path(arguments.photos).glob("*.jpg"))
    pictures = [file.read_bytes() for file in files]
    table(f"{len(files)} photographs as they are", arguments.network, arguments.detector, pictures)
    large = sorted(pictures, key=len)[-6:]
    table(
        f"The {len(large)} largest, enlarged to {MEGAPIXELS} megapixels",
        *(arguments.network, arguments.detector, [enlarged(content) for content in large]),
    )
    file = Path(tempfile.gettempdir()) / "agegender-large.jpg"
    file.write_bytes(enlarged(large[-1]))
    print(
        "\n| draft | decoded first | decoding, s of CPU | all, s of CPU | peak, MB |\n|---|---|---|---|---|",
        flush=True,
    )
    for draft in ("whole", "2.0"):
        command = [sys.executable, __file__, str(file), arguments.network, arguments.detector, "--one", draft]
        subprocess.run(command, check=True)
    file.unlink()


if __name__ == "__main__":
    main()
