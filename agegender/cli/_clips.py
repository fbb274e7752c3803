"""Videos: reading frames, drawing into them, writing them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agegender._detectors.tracks import Reading, Tracker
from agegender._utils.genders import gender_word
from agegender._utils.progress import progress_bar
from agegender.cli._drawing import COLORS, Marked, annotate

if TYPE_CHECKING:
    from agegender.inference import Predictor

__all__ = ["Annotator", "Clip", "opened", "write"]

# If neither the file nor the camera states the frame rate.
_USUAL_RATE = 25.0


@dataclass(frozen=True)
class Clip:
    """An open video: frame rate, number of frames (0 if unknown), reader."""

    capture: Any
    rate: float
    n_frames: int

    def frames(self, most: int) -> Iterator[NDArray[np.uint8]]:
        """Yield RGB frames; all frames if `most` is 0. Ctrl-C ends a recording normally."""
        n_read = 0
        try:
            while not most or n_read < most:
                more, frame = self.capture.read()
                if not more:
                    return
                n_read += 1
                yield np.ascontiguousarray(frame[..., ::-1])
        except KeyboardInterrupt:
            if self.n_frames:
                raise


@contextmanager
def opened(source: str) -> Iterator[Clip]:
    import cv2

    if not source.isdecimal() and not Path(source).is_file():
        raise FileNotFoundError(
            f"There is no video {source!r}; a camera is given by its number; the first is 0."
        )
    capture = cv2.VideoCapture(int(source) if source.isdecimal() else source)
    try:
        if not capture.isOpened():
            raise ValueError(f"{source} cannot be opened as a video or camera.")
        rate = capture.get(cv2.CAP_PROP_FPS)
        n_frames = 0 if source.isdecimal() else int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        yield Clip(capture, rate if 1 <= rate <= 240 else _USUAL_RATE, max(0, n_frames))
    finally:
        capture.release()


class Annotator:
    """Draws the known faces into each frame, and detects faces in some frames."""

    def __init__(self, predictor: Predictor, faces: str, every: int) -> None:
        self.predictor = predictor
        self.faces = faces
        self.every = every
        self.tracker = Tracker()
        self.n_frames = 0
        self._shown: list[Any] = []

    def __call__(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:

        if self.n_frames % self.every == 0:
            self._shown = self.tracker.update(self._read(frame))
        self.n_frames += 1
        labels = self.predictor.classes_[1]
        marked = []
        for track in self._shown:
            seen = track.reading
            gender = gender_word(labels[int(seen.second >= 0.5)])
            text = f"{seen.age:.0f} ± {(seen.age_high - seen.age_low) / 2:.0f} {gender}"
            marked.append(Marked(seen.box, text, COLORS[track.number % len(COLORS)]))
        return annotate(frame, marked, enlarge=False)

    def _read(self, frame: NDArray[np.uint8]) -> list[Reading]:
        found = self.predictor.predict_faces([frame], faces=self.faces)
        second = self.predictor.classes_[1][1]
        columns = {name: column.tolist() for name, column in found.items()}
        return [
            Reading(
                (row["x"], row["y"], row["width"], row["height"]),
                row["age"],
                row["age_low"],
                row["age_high"],
                row["gender_proba"] if row["gender"] == second else 1 - row["gender_proba"],
            )
            for row in (
                dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
            )
        ]


def write(arriving: Path, clip: Clip, annotator: Annotator, most: int, quiet: bool) -> None:
    import cv2

    # OpenCV chooses the container by the suffix.
    unfinished = arriving.with_name(f"{arriving.name}.mp4")
    writer = None
    try:
        with progress_bar(most, "video", 0 if quiet else 1, unit="frame") as bar:
            for frame in clip.frames(most):
                drawn = annotator(frame)
                if writer is None:
                    size = drawn.shape[1], drawn.shape[0]
                    writer = cv2.VideoWriter(
                        str(unfinished), cv2.VideoWriter.fourcc(*"mp4v"), clip.rate, size
                    )
                    if not writer.isOpened():
                        raise OSError(f"{unfinished} cannot be written.")
                writer.write(np.ascontiguousarray(drawn[..., ::-1]))
                bar.update()
        if writer is None:
            raise ValueError("The video has no frame that can be read.")
        writer.release()
        unfinished.replace(arriving)
    finally:
        unfinished.unlink(missing_ok=True)
