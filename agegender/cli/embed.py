"""``agegender embed``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from agegender._files import write_whole
from agegender.cli._options import (
    BackboneOption,
    BatchOption,
    CacheOption,
    ColorOption,
    CropOption,
    LayerOption,
    MeanOption,
    QuietOption,
    ScaleOption,
    cache_folder,
    find_pictures,
    make_extractor,
)
from agegender.cli._output import account, end_with_failures, say


def embed(
    directory: Annotated[Path, typer.Argument(help="Folder of pictures; folders inside are searched too.")],
    out: Annotated[Path, typer.Option(help="An .npz file with the arrays embeddings and paths.")],
    backbone: BackboneOption = "arcface",
    color: ColorOption = None,
    mean: MeanOption = None,
    scale: ScaleOption = None,
    layer: LayerOption = "embedding",
    crop: CropOption = 0.0,
    batch_size: BatchOption = 64,
    cache: CacheOption = "auto",
    quiet: QuietOption = False,
) -> None:
    """Write the activations of every picture in a folder to one file.

    Example: `agegender embed photos/ --backbone facenet --layer pooled --out embeddings.npz`
    """
    import numpy as np

    paths = find_pictures([directory])
    with cache_folder(cache) as folder:
        extractor = make_extractor(backbone, color, mean, scale, layer, crop, batch_size, folder, quiet)
        rows = extractor.set_params(on_error="nan").transform(paths)
    report = extractor.report_
    failed = {failure.index for failure in report.failures}
    kept = [i for i in range(len(paths)) if i not in failed]
    names = np.array([paths[i] for i in kept], dtype=np.str_)
    write_whole(out, lambda path: _savez(path, embeddings=rows[kept], paths=names))
    say(f"{account(report)} Saved {len(kept):,} rows to {out}.", quiet)
    end_with_failures(report.failures)


def _savez(path: Path, **arrays: Any) -> None:
    import numpy as np

    with path.open("wb") as file:
        np.savez(file, **arrays)
