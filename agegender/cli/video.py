"""``agegender video``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from agegender._detectors.tracks import Reading, Tracker
from agegender._utils.files import check_writable, write_whole
from agegender._utils.progress import progress_bar
from agegender.cli._models import load_or_pretrained
from agegender.cli._options import FacesOption, ModelOption, QuietOption
from agegender.cli._output import say, shown

# If neither the file nor the camera states the frame rate.
_USUAL_RATE = 25.0


def video(
    source: Annotated[str, typer.Argument(help="A video file, or the number of a camera: 0 is the first.")],
    out: Annotated[Path, typer.Option(help="The annotated video, an .mp4 file.")],
    model: ModelOption = None,
    faces: FacesOption = "auto",
    per_second: Annotated[
        float,
        typer.Option(help="Number of frames per second in which faces are detected; boxes stay in between."),
    ] = 5.0,
    seconds: Annotated[float | None, typer.Option(help="Stop after this many seconds of video.")] = None,
    quiet: QuietOption = False,
) -> None:
    """Write a copy of a video with the box, age ± range and gender of every face.

    Faces are followed from frame to frame, and their predictions are averaged. No window is opened. A camera
    runs until `--seconds` or Ctrl-C; the recorded part is saved.

    Examples: `agegender video party.mp4 --out annotated.mp4` ·
    `agegender video 0 --seconds 20 --out me.mp4 --model model.agegender`
    """
    if faces == "none":
        raise ValueError("video detects faces; --faces none is for pictures that are face crops.")
    if per_second <= 0:
        raise ValueError(f"--per-second {per_second:g} should be above 0.")
    if out.suffix.lower() != ".mp4":
        raise ValueError(f"--out {str(out)!r} should end in .mp4.")
    check_writable(out)
    fitted = load_or_pretrained(model)
    fitted.extractor_.set_params(cache=None, on_error="raise", verbose=0)
    with _opened(source) as clip:
        annotator = _Annotator(fitted, faces, max(1, round(clip.rate / per_second)))
        most = clip.n_frames if seconds is None else max(1, round(seconds * clip.rate))
        write_whole(out, lambda arriving: _write(arriving, clip, annotator, most, quiet))
    say(
        f"Saved {shown(out)}: {annotator.n_frames:,} frames, {annotator.tracker.n_seen} faces followed.",
        quiet,
    )


@dataclass(frozen=True)
class _Clip:
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
def _opened(source: str) -> Iterator[_Clip]:
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
        yield _Clip(capture, rate if 1 <= rate <= 240 else _USUAL_RATE, max(0, n_frames))
    finally:
        capture.release()


class _Annotator:
    """Draws the known faces into each frame, and detects faces in some frames."""

    def __init__(self, model: Any, faces: str, every: int) -> None:
        self.model = model
        self.faces = faces
        self.every = every
        self.tracker = Tracker()
        self.n_frames = 0
        self._shown: list[Any] = []

    def __call__(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        from agegender._utils.genders import gender_word
        from agegender.cli._drawing import COLORS, Marked, annotate

        if self.n_frames % self.every == 0:
            self._shown = self.tracker.update(self._read(frame))
        self.n_frames += 1
        labels = self.model.classes_[1]
        marked = []
        for track in self._shown:
            seen = track.reading
            gender = gender_word(labels[int(seen.second >= 0.5)])
            text = f"{seen.age:.0f} ± {(seen.age_high - seen.age_low) / 2:.0f} {gender}"
            marked.append(Marked(seen.box, text, COLORS[track.number % len(COLORS)]))
        return annotate(frame, marked, enlarge=False)

    def _read(self, frame: NDArray[np.uint8]) -> list[Reading]:
        table = self.model.predict_faces([frame], faces=self.faces)
        second = self.model.classes_[1][1]
        return [
            Reading(
                (row["x"], row["y"], row["width"], row["height"]),
                row["age"],
                row["age_low"],
                row["age_high"],
                row["gender_proba"] if row["gender"] == second else 1 - row["gender_proba"],
            )
            for row in table.to_dict("records")
        ]


def _write(arriving: Path, clip: _Clip, annotator: _Annotator, most: int, quiet: bool) -> None:
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
