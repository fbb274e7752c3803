"""``agegender embed``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agegender._utils.files import check_writable, write_whole
from agegender._utils.urls import public
from agegender.cli._options import (
    BackboneOption,
    BatchOption,
    CacheOption,
    ColorOption,
    CropOption,
    EmbeddingLayerOption,
    MeanOption,
    QuietOption,
    ScaleOption,
    cache_folder,
    find_pictures,
    make_extractor,
    place,
)
from agegender.cli._output import account, end_with_failures, say, shown

if TYPE_CHECKING:
    from agegender.extractor import EmbeddingExtractor


def embed(
    source: Annotated[
        Path,
        typer.Argument(
            parser=place,
            help="Folder of pictures; subfolders are searched too. With --shard also a list: a text file with "
            "one path per line, or a .csv, .tsv or .parquet file. Paths may be URLs.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            parser=place,
            help="An .npz file with the arrays embeddings and paths; with --shard a folder, or its URL.",
        ),
    ],
    backbone: BackboneOption = None,
    color: ColorOption = None,
    mean: MeanOption = None,
    scale: ScaleOption = None,
    layer: EmbeddingLayerOption = None,
    crop: CropOption = 0.0,
    batch_size: BatchOption = 64,
    cache: CacheOption = "auto",
    shard: Annotated[
        str | None,
        typer.Option(
            help="i/n: write the i-th of n parts as a Parquet file, unless it exists. Each machine runs "
            "another i. Nothing is cached."
        ),
    ] = None,
    column: Annotated[str, typer.Option(help="Column of paths in a table, with --shard.")] = "path",
    quiet: QuietOption = False,
) -> None:
    """Write the embeddings of all pictures in a folder to one file, or of one part of a list to a Parquet file.

    Example: `agegender embed photos/ --backbone facenet --layer pooled --out embeddings.npz`

    Example: `agegender embed photos/ --backbone arcface --backbone facenet,layer=pooled --out embeddings.npz`

    Example: `agegender embed pictures.txt --shard 3/100 --out embeddings/`
    """
    import numpy as np

    if isinstance(out, Path):
        check_writable(out if shard is None else out / "part.parquet")
    elif shard is None:
        raise ValueError(
            f"--out {public(out)} is a URL, which goes with --shard alone; write to a file here."
        )
    made = partial(make_extractor, default_layer="embedding")
    given = (backbone, color, mean, scale, layer, crop, batch_size)
    if shard is not None:
        extractor = made(*given, "none", quiet)
        _write_shard(source, out, extractor.set_params(cache=None), shard, column, quiet)
        return
    paths = find_pictures([source])
    with cache_folder(cache) as folder:
        extractor = made(*given, folder, quiet)
        rows = extractor.set_params(on_error="nan").transform(paths)
    report = extractor.report_
    failed = {failure.index for failure in report.failures}
    kept = [i for i in range(len(paths)) if i not in failed]
    names = np.array([public(paths[i]) for i in kept], dtype=np.str_)
    write_whole(out, lambda path: _savez(path, embeddings=rows[kept], paths=names))
    say(f"{account(report)} Saved {len(kept):,} rows to {shown(out)}.", quiet)
    end_with_failures(report.failures)


def _write_shard(
    source: Path, out: Path, extractor: EmbeddingExtractor, shard: str, column: str, quiet: bool
) -> None:
    """Write one shard; unreadable pictures are only counted, because the file contains the reasons."""
    from agegender.shards import write_shard

    report = write_shard(source, out, extractor, shard, column=column)
    if report.skipped:
        say(f"{shown(report.path)} exists already, with {report.n_images:,} rows.", quiet)
    else:
        say(
            f"Embedded {report.n_images:,} pictures in {report.seconds:.1f} s into {shown(report.path)}.",
            quiet,
        )
    if report.n_failures:
        say(f"{report.n_failures:,} of them could not be read; the column error contains the reasons.")


def _savez(path: Path, **arrays: Any) -> None:
    import numpy as np

    with path.open("wb") as file:
        np.savez(file, **arrays)
