"""``agegender export``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from agegender._utils.files import check_writable
from agegender.cli._models import load_or_pretrained
from agegender.cli._options import QuietOption
from agegender.cli._output import say, shown


def export(
    model: Annotated[
        str,
        typer.Argument(
            help="A model saved by `agegender train`, or compact, the one that comes with the package."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="The .onnx file to write.")],
    resize: Annotated[
        bool, typer.Option("--resize", help="Take face crops of any size; the file scales them itself.")
    ] = False,
    coverage: Annotated[
        str, typer.Option(help="Share of ages that lie in the interval, or input: asked at each call.")
    ] = "0.9",
    float16: Annotated[
        bool, typer.Option("--float16", help="Keep weights in half precision: half the size.")
    ] = False,
    rewrite: Annotated[
        bool, typer.Option(help="Make it fast on processors; --no-rewrite is faster in WebAssembly.")
    ] = True,
    quiet: QuietOption = False,
) -> None:
    """Write a model as one ONNX file, from face crops to calibrated ages and genders, for any language.

    Examples: `agegender export model.agegender model.onnx` ·
    `agegender export compact compact.onnx --resize --float16`
    """
    from agegender.export import export_onnx

    check_writable(out)
    fitted = load_or_pretrained(None if model == "compact" else Path(model))
    share = _parse_coverage(coverage)
    path = export_onnx(fitted, out, resize=resize, coverage=share, float16=float16, rewrite=rewrite)
    differences = _description(path)["largest_difference"]
    years = max(differences[name] for name in ("age", "age_low", "age_high"))
    say(
        f"Exported to {shown(out)} ({path.stat().st_size / 1e6:.1f} MB): input pictures, outputs "
        f"{', '.join(differences)}; "
        f"on drawn faces within {years:.1g} years of the model.",
        quiet,
    )


def _parse_coverage(text: str) -> float | None:
    if text == "input":
        return None
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"--coverage {text!r} is neither a fraction such as 0.9 nor input.") from error


def _description(path: Path) -> dict[str, dict[str, float]]:
    import onnx

    entry = next(entry for entry in onnx.load(path).metadata_props if entry.key == "agegender_export")
    return dict(json.loads(entry.value))
