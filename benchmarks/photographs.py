"""What both detectors find in crowds, small, cut-off and turned faces and very large pictures, and how long it takes.

    python benchmarks/photographs.py --yunet face_detection_yunet_2023mar.onnx [--faces UTKFace/] [--photos photos/]

The crowds are made here: faces at known places, drawn ones (agegender.datasets.make_faces) or those of a folder
of face crops. Of a folder of photographs, the table counts the faces. Prints tables in
Markdown; the times are processor time, which other work on the machine hardly changes.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from agegender import images
from agegender.datasets import make_faces
from agegender.faces import Detector, Face, detect, load_detector

Pixels = NDArray[np.uint8]


class Crowd(NamedTuple):
    """A picture, and the place and side of each face crop in it."""

    pixels: Pixels
    places: list[tuple[int, int, int]]


class Case(NamedTuple):
    """A row of the table."""

    name: str
    crowd: Callable[[], Crowd]
    min_face_size: float | None = None


def main() -> None:
    options = read_options()
    detectors = [load_detector(options.yunet)] if options.yunet else []
    detectors.append(load_detector("mtcnn"))
    with tempfile.TemporaryDirectory() as folder:
        crops = read_crops(options.faces, Path(folder), options.crops)
        print(f"| picture | {' | '.join(f'{one.name}: found, other, CPU seconds' for one in detectors)} |")
        print(f"|---|{'---|' * len(detectors)}")
        for case in cases(crops):
            if options.rows not in case.name:
                continue
            crowd = case.crowd()
            cells = [cell(case, crowd, detector, options.turns) for detector in detectors]
            print(f"| {case.name} | {' | '.join(cells)} |", flush=True)
    if options.photos:
        show_photographs(options.photos, detectors, options.turns)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--yunet", type=Path, help="a file of YuNet")
    parser.add_argument("--faces", type=Path, help="a folder of tight face crops such as UTKFace's")
    parser.add_argument("--photos", type=Path, help="a folder of photographs")
    parser.add_argument("--rows", default="", help="only pictures whose name has this text")
    parser.add_argument("--crops", type=int, default=100)
    parser.add_argument("--turns", type=int, default=3, help="searches per picture; the median is shown")
    return parser.parse_args()


def read_crops(folder: Path | None, drawn: Path, number: int) -> list[Pixels]:
    paths = sorted(folder.glob("*.jpg")) if folder else make_faces(number, drawn).data
    chosen = np.random.default_rng(0).permutation(len(paths))[:number]
    return [images.load(paths[index]) for index in chosen]


def cases(crops: Sequence[Pixels]) -> Iterator[Case]:
    for side in (20, 24, 32, 48, 64):
        yield Case(
            f"100 crops of {side} pixels in 1280 × 960",
            lambda side=side: crowd(crops, 100, side, (1280, 960)),
        )
    for side in (32, 64):
        yield Case(
            f"100 crops of {side} pixels in 4000 × 3000",
            lambda side=side: crowd(crops, 100, side, (4000, 3000)),
        )
        yield Case(
            "… with `min_face_size=24`",
            lambda side=side: crowd(crops, 100, side, (4000, 3000)),
            min_face_size=24,
        )
    yield Case("100 crops of 64 pixels in 8000 × 6000", lambda: crowd(crops, 100, 64, (8000, 6000)))
    yield Case("… with `min_face_size=40`", lambda: crowd(crops, 100, 64, (8000, 6000)), min_face_size=40)
    yield Case("one crop of 1500 pixels in 8000 × 6000", lambda: crowd(crops, 1, 1500, (8000, 6000)))
    yield Case("nothing, 1280 × 960", lambda: crowd(crops, 0, 64, (1280, 960)))
    for share in (0.1, 0.25, 0.4):
        yield Case(f"12 crops of 120 pixels, {share:.0%} outside", lambda share=share: cut_off(crops, share))
    for turn in (90, 180, 270):
        yield Case(f"9 crops of 100 pixels, turned by {turn}°", lambda turn=turn: turned(crops, turn))


def crowd(crops: Sequence[Pixels], number: int, side: int, size: tuple[int, int], seed: int = 0) -> Crowd:
    """Return a picture (width, height) with crops of this side in the cells of a grid."""
    rng = np.random.default_rng(seed)
    width, height = size
    picture = background(size, rng)
    columns = max(1, round((number * width / height) ** 0.5))
    rows = -(-number // columns)
    places = []
    for index in range(number):
        cell = np.array([width // columns, height // max(rows, 1)])
        corner = cell * [index % columns, index // columns] + rng.integers(0, np.maximum(cell - side, 1))
        left, top = corner.tolist()
        picture[top : top + side, left : left + side] = scaled(crops[index % len(crops)], side)
        places.append((left, top, side))
    return Crowd(picture, places)


def cut_off(crops: Sequence[Pixels], share: float) -> Crowd:
    """Return a picture with twelve crops at its left and right edges; a share of each is outside."""
    whole = background((900, 840), np.random.default_rng(1))
    side, places = 120, []
    for index in range(12):
        left, top = (
            (100 - round(side * share), 800 - side + round(side * share))[index % 2],
            (index // 2) * 140,
        )
        whole[top : top + side, left : left + side] = scaled(crops[index], side)
        places.append((left - 100, top, side))
    return Crowd(np.ascontiguousarray(whole[:, 100:800]), places)


def turned(crops: Sequence[Pixels], turn: int) -> Crowd:
    upright = crowd(crops, 9, 100, (640, 480))
    pixels, places = upright
    for _ in range(turn // 90):
        height = pixels.shape[0]
        pixels = np.ascontiguousarray(np.rot90(pixels, -1))
        places = [(height - top - side, left, side) for left, top, side in places]
    return Crowd(pixels, places)


def background(size: tuple[int, int], rng: np.random.Generator) -> Pixels:
    width, height = size
    coarse = rng.normal(120, 25, (height // 40 + 1, width // 40 + 1, 3)).clip(0, 255).astype(np.uint8)
    return np.asarray(cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC))


def scaled(crop: Pixels, side: int) -> Pixels:
    kind = cv2.INTER_AREA if side < crop.shape[0] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(crop, (side, side), interpolation=kind))


def cell(case: Case, crowd: Crowd, detector: Detector, turns: int) -> str:
    faces, seconds = timed(crowd.pixels, detector, case.min_face_size, turns)
    found = sum(any(is_at(face, place) for face in faces) for place in crowd.places)
    others = sum(not any(is_at(face, place) for place in crowd.places) for face in faces)
    return f"{found} of {len(crowd.places)}, {others}, {seconds:.2f}"


def timed(
    pixels: Pixels, detector: Detector, min_face_size: float | None, turns: int
) -> tuple[list[Face], float]:
    faces, seconds = list[Face](), []
    for _ in range(turns):
        start = time.process_time()
        faces = detect(pixels, detector=detector, min_face_size=min_face_size)
        seconds.append(time.process_time() - start)
    return faces, statistics.median(seconds)


def is_at(face: Face, place: tuple[int, int, int]) -> bool:
    """Whether the middle of a face's landmarks is in the middle half of a crop."""
    left, top, side = place
    x, y = np.asarray(face.landmarks).mean(axis=0)
    return abs(x - left - side / 2) < side / 4 and abs(y - top - side / 2) < side / 4


def show_photographs(folder: Path, detectors: Sequence[Detector], turns: int) -> None:
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in images.SUFFIXES)
    for quarter in range(4):
        print(f"\n{len(paths)} photographs of {folder.name}/, turned by {90 * quarter}°\n")
        print("| detector | faces | their rotations | not reliable | CPU seconds per photograph, median |")
        print("|---|---|---|---|---|")
        for detector in detectors:
            faces, seconds = [], []
            for path in paths:
                pixels = np.ascontiguousarray(np.rot90(images.load(path), -quarter))
                some, taken = timed(pixels, detector, None, turns)
                faces += some
                seconds.append(taken)
            rotations = {turn: sum(face.rotation == turn for face in faces) for turn in (0, 90, 180, 270)}
            told = ", ".join(f"{turn}°: {count}" for turn, count in rotations.items() if count)
            doubtful = sum(not face.reliable for face in faces)
            print(
                f"| {detector.name} | {len(faces)} | {told} | {doubtful} | {statistics.median(seconds):.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
