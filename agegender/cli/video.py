"""``agegender video``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agegender._utils.files import check_writable, write_whole
from agegender.cli._models import load_predictor
from agegender.cli._options import FacesOption, ModelOption, QuietOption
from agegender.cli._output import say, shown


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
    from agegender.cli._clips import Annotator, opened, write

    predictor = load_predictor(model, cache=None, on_error="raise", verbose=0)
    with opened(source) as clip:
        annotator = Annotator(predictor, faces, max(1, round(clip.rate / per_second)))
        most = clip.n_frames if seconds is None else max(1, round(seconds * clip.rate))
        write_whole(out, lambda arriving: write(arriving, clip, annotator, most, quiet))
    say(
        f"Saved {shown(out)}: {annotator.n_frames:,} frames, {annotator.tracker.n_seen} faces followed.",
        quiet,
    )
