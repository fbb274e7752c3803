"""Parts of a list as Parquet files: who takes what, what a file holds, and when it is not written again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import polars
import pyarrow.parquet as pq
import pytest

from agegender import EmbeddingExtractor
from agegender.backbones import Backbone
from agegender.runtime import images_passed
from agegender.shards import Shard, list_pictures, parse_shard, write_shard


@pytest.fixture
def extractor(tiny_onnx: Path) -> EmbeddingExtractor:
    return EmbeddingExtractor(Backbone.from_onnx(tiny_onnx), layer="embedding", cache=None)


@pytest.fixture
def names(drawn_faces: Path) -> list[str]:
    return sorted(path.name for path in drawn_faces.iterdir())


def test_the_shards_of_a_folder_hold_every_picture_once(extractor, drawn_faces, names, tmp_path) -> None:
    reports = [write_shard(drawn_faces, tmp_path, extractor, f"{i}/7") for i in range(1, 8)]
    tables = [pq.read_table(report.path) for report in reports]
    assert [report.n_images for report in reports] == [9, 9, 9, 9, 8, 8, 8]
    for number, table in enumerate(tables):
        assert table["path"].to_pylist() == names[number::7]
    rows = extractor.transform([drawn_faces / name for name in names])
    table = pq.read_table(tmp_path).sort_by("path")
    np.testing.assert_array_equal(np.array(table["embedding"].to_pylist(), np.float32), rows)
    assert table["error"].null_count == len(names)


def test_every_reader_gets_the_numbers(extractor, drawn_faces, names, tmp_path) -> None:
    path = write_shard(drawn_faces, tmp_path, extractor).path
    rows = extractor.transform([drawn_faces / name for name in names])
    assert path.name == "part-000001-of-000001.parquet"
    np.testing.assert_array_equal(np.stack(pd.read_parquet(path)["embedding"]), rows)
    np.testing.assert_array_equal(polars.read_parquet(path)["embedding"].to_numpy(), rows)
    column = pq.read_table(path)["embedding"].combine_chunks()
    assert column.type.list_size == 16
    np.testing.assert_array_equal(column.flatten().to_numpy().reshape(-1, 16), rows)


def test_the_footer_says_what_the_numbers_are(extractor, drawn_faces, tmp_path) -> None:
    path = write_shard(drawn_faces, tmp_path, extractor, "2/3").path
    said = json.loads(pq.read_schema(path).metadata[b"agegender"])
    assert said["shard"] == "2/3"
    assert said["n_rows"] == pq.read_metadata(path).num_rows == 20
    (recipe,) = said["recipes"]
    assert recipe["network"] == extractor.resolve_backbones()[0].sha256
    assert (recipe["layer"], recipe["preprocessing"]) == ("embedding", 1)


def test_a_finished_shard_is_left_alone_and_a_damaged_one_written_again(
    extractor, drawn_faces, tmp_path
) -> None:
    first = write_shard(drawn_faces, tmp_path, extractor, "1/2")
    content, changed = first.path.read_bytes(), first.path.stat().st_mtime_ns
    before = images_passed()
    again = write_shard(drawn_faces, tmp_path, extractor, Shard(1, 2))
    assert (first.skipped, again.skipped, again.n_images) == (False, True, 30)
    assert images_passed() == before
    assert first.path.stat().st_mtime_ns == changed
    first.path.write_bytes(content[:-100])
    assert not write_shard(drawn_faces, tmp_path, extractor, "1/2").skipped
    assert first.path.read_bytes() == content


def test_a_file_of_another_making_is_refused(extractor, drawn_faces, names, tmp_path) -> None:
    write_shard(drawn_faces, tmp_path, extractor)
    other = EmbeddingExtractor(extractor.backbone, layer="embedding", crop=0.1, cache=None)
    with pytest.raises(ValueError, match="recipes differ"):
        write_shard(drawn_faces, tmp_path, other)
    paths = [str(drawn_faces / name) for name in names]
    with pytest.raises(ValueError, match="paths differ"):
        write_shard(paths, tmp_path, extractor)


def test_an_interrupted_shard_leaves_no_file(extractor, drawn_faces, tmp_path, monkeypatch) -> None:
    from agegender import shards

    monkeypatch.setattr(shards, "BLOCK_BYTES", 10 * 16 * 4)
    table, calls = shards._table, []

    def stop_at_the_third(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return table(*arguments)

    monkeypatch.setattr(shards, "_table", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        write_shard(drawn_faces, tmp_path / "out", extractor)
    assert list((tmp_path / "out").iterdir()) == []
    monkeypatch.setattr(shards, "_table", table)
    path = write_shard(drawn_faces, tmp_path / "out", extractor).path
    assert pq.read_metadata(path).num_row_groups == 6


def test_bad_pictures_stand_with_their_reason(extractor, drawn_faces, names, tmp_path, monkeypatch) -> None:
    from agegender import shards

    monkeypatch.setattr(shards, "BLOCK_BYTES", 2 * 16 * 4)
    paths = [str(drawn_faces / name) for name in names[:4]]
    paths[2:2] = [str(tmp_path / "nowhere.jpg")]
    report = write_shard(paths, tmp_path, extractor)
    assert (report.n_images, report.n_failures) == (5, 1)
    table = pq.read_table(report.path)
    assert table["embedding"].to_pylist()[2] is None
    reasons = table["error"].to_pylist()
    assert reasons[2].startswith("does not exist")
    assert reasons[:2] + reasons[3:] == [None] * 4
    assert write_shard(paths, tmp_path, extractor).n_failures == 1
    rows = extractor.transform(paths[:2] + paths[3:])
    kept = table["embedding"].to_pylist()
    np.testing.assert_array_equal(np.array(kept[:2] + kept[3:], np.float32), rows)


def test_maps_and_halves_are_flat_lists_with_their_shape_beside_them(
    extractor, drawn_faces, tmp_path
) -> None:
    extractor = EmbeddingExtractor(
        extractor.backbone, layer="feature_map", dtype="float16", views=2, cache=None
    )
    path = write_shard(drawn_faces, tmp_path, extractor).path
    shape = json.loads(pq.read_schema(path).metadata[b"agegender"])["row_shape"]
    column = pq.read_table(path)["embedding"].combine_chunks()
    rows = column.flatten().to_numpy().reshape(-1, *shape)
    paths = sorted(drawn_faces.iterdir())
    np.testing.assert_array_equal(rows, extractor.transform(paths))


@pytest.mark.parametrize("kind", ["txt", "csv", "parquet"])
def test_lists_are_read_from_every_kind_of_file(extractor, drawn_faces, names, tmp_path, kind) -> None:
    frame = pd.DataFrame({"age": range(len(names)), "file": names})
    path = drawn_faces.parent / f"{tmp_path.name}.{kind}"
    if kind == "txt":
        path.write_text("\n".join(f"{drawn_faces.name}/{name}" for name in names) + "\n")
        root, listed = list_pictures(path)
        expected = [f"{drawn_faces.name}/{name}" for name in names]
    else:
        write = frame.to_csv if kind == "csv" else frame.to_parquet
        write(path, index=False)
        root, listed = list_pictures(path, column="file")
        expected = names
        with pytest.raises(ValueError, match=r"no column 'path'; it has 'age', 'file'"):
            list(list_pictures(path)[1])
    assert root == drawn_faces.parent
    assert list(listed) == expected


def test_folders_inside_are_listed_in_the_order_of_names(tmp_path) -> None:
    for name in ["b/2.jpg", "a.jpg", "b/1.PNG", "c.txt", "b/x/3.webp"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list(list_pictures(tmp_path)[1]) == ["a.jpg", "b/1.PNG", "b/2.jpg", "b/x/3.webp"]


def test_links_that_lead_round_in_a_circle_are_listed_once(tmp_path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "1.jpg").touch()
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a" / "self")
    (tmp_path / "other").symlink_to(tmp_path / "a")
    assert list(list_pictures(tmp_path)[1]) == ["a/1.jpg", "other/1.jpg"]


@pytest.mark.parametrize("text", ["0/8", "9/8", "1", "a/b", "-1/8", "1/", "1/0"])
def test_what_is_no_shard_is_refused(text) -> None:
    with pytest.raises(ValueError, match="shard"):
        parse_shard(text)
