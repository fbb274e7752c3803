"""Shards read back: rows in the list's order, labels joined, heads trained on them, whole predictors."""

from __future__ import annotations

from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pytest

from agegender import AgeGenderClassifier, AgeGenderPipeline, EmbeddingExtractor, load_model, save_model
from agegender.backbones import Backbone
from agegender.exceptions import FramingWarning
from agegender.shards import open_shards, shard_extractor, write_shard


@pytest.fixture
def extractor(tiny_onnx: Path) -> EmbeddingExtractor:
    return EmbeddingExtractor(Backbone.from_onnx(tiny_onnx), layer="embedding", cache=None)


@pytest.fixture
def names(drawn_faces: Path) -> list[str]:
    return sorted(path.name for path in drawn_faces.iterdir())


@pytest.fixture
def folder(extractor, drawn_faces, tmp_path) -> Path:
    for number in range(1, 8):
        write_shard(drawn_faces, tmp_path / "shards", extractor, f"{number}/7")
    return tmp_path / "shards"


@pytest.fixture
def labels(names: list[str]) -> pd.DataFrame:
    split = [name.split("_") for name in names]
    table = {
        "path": names,
        "age": [int(part[0]) for part in split],
        "gender": [int(part[1]) for part in split],
    }
    return pd.DataFrame(table).sample(frac=1, random_state=0)


def test_rows_come_in_the_order_of_the_list(extractor, folder, names, drawn_faces) -> None:
    rows = open_shards(folder)
    assert isinstance(rows.data, np.memmap)
    np.testing.assert_array_equal(rows.data, extractor.transform([drawn_faces / name for name in names]))
    assert rows.frame["path"].tolist() == names
    assert rows.frame["place"].tolist() == list(range(60))
    assert rows.target is None
    assert len(rows.excluded) == 0


def test_labels_are_joined_by_name_and_nothing_is_lost(
    extractor, drawn_faces, names, labels, tmp_path
) -> None:
    listed = [*names[:20], "missing.jpg", *names[20:]]
    (tmp_path / "list.txt").write_text("\n".join(str(drawn_faces / name) for name in listed))
    for number in (1, 2, 3):
        write_shard(tmp_path / "list.txt", tmp_path, extractor, f"{number}/3")
    table = labels.assign(path=[str(drawn_faces / name) for name in labels["path"]])
    table = table[table["path"] != str(drawn_faces / names[3])].astype({"age": object})
    table.loc[table["path"] == str(drawn_faces / names[5]), "age"] = "old"
    extra = pd.DataFrame({"path": ["elsewhere.jpg", str(drawn_faces / "missing.jpg")], "age": 3, "gender": 0})
    table = pd.concat([table, extra])
    table.to_csv(tmp_path / "table.csv", index=False)
    rows = open_shards(tmp_path, tmp_path / "table.csv")
    kept = [str(drawn_faces / name) for place, name in enumerate(names) if place not in (3, 5)]
    assert rows.frame["path"].tolist() == kept
    np.testing.assert_array_equal(rows.data, extractor.transform(kept))
    ages = [[float(part) for part in Path(path).name.split("_")[:2]] for path in kept]
    np.testing.assert_array_equal(rows.target, ages)
    reasons = dict(
        zip(rows.excluded["path"].map(lambda path: Path(path).name), rows.excluded["reason"], strict=True)
    )
    assert sorted(reasons) == sorted([names[3], names[5], "missing.jpg", "elsewhere.jpg"])
    assert reasons[names[3]].startswith("no label:")
    assert reasons[names[5]].startswith("unknown age:")
    assert reasons["missing.jpg"].startswith("failed: does not exist")
    assert reasons["elsewhere.jpg"].startswith("no row:")
    assert "2 of" not in rows.DESCR
    assert rows.DESCR.startswith("58 rows of tiny (16) from 3 shards")


def test_groups_and_other_columns_come_along(folder, labels) -> None:
    table = labels.assign(person=[f"p{number % 9}" for number in range(60)], city="Wien")
    rows = open_shards(folder, table, group="person")
    assert rows.frame["city"].eq("Wien").all()
    people = table.set_index("path").loc[rows.frame["path"], "person"].tolist()
    assert len(set(zip(people, rows.groups.tolist(), strict=True))) == 9


def test_a_pipeline_of_shards_predicts_what_one_of_pictures_does(
    extractor, folder, labels, names, drawn_faces, tmp_path
) -> None:
    rows = open_shards(folder, labels)
    head = AgeGenderClassifier(epochs=3, random_state=0)
    head.fit(rows.data, rows.target, groups=rows.groups)
    network = extractor.backbone
    model = AgeGenderPipeline.from_parts(shard_extractor(rows, network), head)
    pictures = [str(drawn_faces / name) for name in names]
    whole = AgeGenderPipeline(extractor, AgeGenderClassifier(epochs=3, random_state=0))
    whole.fit(pictures, rows.target)
    np.testing.assert_array_equal(model.predict(pictures), whole.predict(pictures))
    save_model(model, tmp_path / "model.agegender")
    loaded = load_model(tmp_path / "model.agegender")
    np.testing.assert_allclose(loaded.predict(pictures), whole.predict(pictures), atol=1e-4)
    model.set_params(extractor__on_error="nan").extractor_.set_params(on_error="nan")
    with pytest.warns(FramingWarning, match="unknown"):
        model.predict(pictures[:1], faces="mtcnn")
    again = AgeGenderPipeline.from_parts(extractor, head, pictures=pictures)
    assert again.set_params(classifier__epochs=1).classifier.epochs == 1


def test_parts_that_do_not_fit_are_refused(extractor, folder, labels) -> None:
    rows = open_shards(folder, labels)
    head = AgeGenderClassifier(epochs=1).fit(rows.data, rows.target)
    other = EmbeddingExtractor(extractor.backbone, layer="pooled", cache=None)
    with pytest.raises(ValueError, match=r"rows of shape \(12,\).*fitted on rows of \(16,\)"):
        AgeGenderPipeline.from_parts(other, head)


@pytest.mark.parametrize(
    "options",
    [
        {"crop": 0.05},
        {"framing": "utkface"},
        {"faces": "mtcnn"},
        {"faces": "mtcnn", "draft": 1.5},
        {"draft": 2.0},
        {"views": ("plain", "mirror+zoom")},
        {"views": "mirror"},
        {"layer": "pooled", "dtype": "float16"},
        {"layer": "input"},
    ],
)
def test_the_footers_describe_the_extractor(extractor, paths, tmp_path, options) -> None:
    extractor.set_params(**options)
    write_shard(paths[:4], tmp_path, extractor)
    found = shard_extractor(tmp_path, extractor.backbone)
    assert [recipe.json for recipe in found.recipes()] == [recipe.json for recipe in extractor.recipes()]
    if "faces" not in options:
        np.testing.assert_array_equal(
            open_shards(tmp_path).data, found.set_params(cache=None).transform(paths[:4])
        )


def test_the_network_is_found_by_name_or_asked_for(extractor, paths, tmp_path) -> None:
    write_shard(paths[:4], tmp_path / "a", EmbeddingExtractor("compact", layer="pooled", cache=None))
    assert [network.name for network in shard_extractor(tmp_path / "a").resolve_backbones()] == ["compact"]
    write_shard(paths[:4], tmp_path / "b", extractor)
    with pytest.raises(ValueError, match="'tiny', which cannot be loaded by that name"):
        shard_extractor(tmp_path / "b")
    with pytest.raises(ValueError, match="network would be"):
        shard_extractor(tmp_path / "b", "compact")


def test_shards_that_disagree_are_refused(extractor, folder, drawn_faces, tmp_path) -> None:
    (folder / "part-000002-of-000007.parquet").unlink()
    write_shard(drawn_faces, folder, extractor.set_params(crop=0.1), "2/7")
    with pytest.raises(ValueError, match=r"another making.*crop 0\.1 instead of 0\.0"):
        open_shards(folder)
    with pytest.raises(ValueError, match="another making"):
        shard_extractor(folder)


def test_missing_damaged_and_renamed_shards_are_told_of(folder, names) -> None:
    third, fourth = (folder / f"part-00000{number}-of-000007.parquet" for number in (3, 4))
    content = third.read_bytes()
    third.unlink()
    with pytest.raises(ValueError, match=r"1 of the 7 shards are not in .*: 3"):
        open_shards(folder)
    assert open_shards(folder, allow_missing=True).frame["path"].tolist() == [
        name for place, name in enumerate(names) if place % 7 != 2
    ]
    third.write_bytes(content[:-50])
    with pytest.raises(ValueError, match="is damaged; embed this shard again"):
        open_shards(folder)
    third.write_bytes(fourth.read_bytes())
    with pytest.raises(ValueError, match="says of itself that it is shard 4/7"):
        open_shards(folder)
    with pytest.raises(FileNotFoundError, match="no shards in"):
        open_shards(folder.parent)


def test_contradicting_labels_and_labels_of_nothing_are_errors(folder, labels) -> None:
    with pytest.raises(ValueError, match="twice, with different labels"):
        open_shards(folder, pd.concat([labels, labels.iloc[:1].assign(age=99)]))
    assert len(open_shards(folder, pd.concat([labels, labels.iloc[:1]])).data) == 60
    with pytest.raises(ValueError, match="names are compared as they stand"):
        open_shards(folder, labels.assign(path="x/" + labels["path"]))
    with pytest.raises(TypeError, match=r"no parameter 'groups'\. Did you mean 'group'"):
        open_shards(folder, labels, groups="person")


def test_rows_are_kept_in_a_file_that_is_whole(folder, labels, tmp_path) -> None:
    rows = open_shards(folder, labels, rows_file=tmp_path / "rows.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), rows.data)
    assert not rows.data.flags.writeable
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".npy"] == ["rows.npy"]
    with pytest.raises(ValueError, match=r"should end in \.npy"):
        open_shards(folder, rows_file=tmp_path / "rows.bin")


def test_shards_are_written_to_a_store(extractor, drawn_faces, folder) -> None:
    for number in range(1, 8):
        report = write_shard(drawn_faces, "memory://written", extractor, f"{number}/7")
        assert report.path == f"memory://written/part-00000{number}-of-000007.parquet"
        assert not report.skipped
    assert write_shard(drawn_faces, "memory://written", extractor, "2/7").skipped
    np.testing.assert_array_equal(open_shards("memory://written").data, open_shards(folder).data)
    with pytest.raises(ValueError, match=r"memory://written/part-000002-of-000007.parquet has other content"):
        write_shard(drawn_faces, "memory://written", extractor.set_params(crop=0.1), "2/7")
    fsspec.filesystem("memory").rm("/written", recursive=True)


def test_shards_in_a_store(folder, labels) -> None:
    system = fsspec.filesystem("memory")
    for path in folder.iterdir():
        system.pipe(f"/shards/{path.name}", path.read_bytes())
    np.testing.assert_array_equal(
        open_shards("memory://shards", labels).data, open_shards(folder, labels).data
    )
    system.rm("/shards", recursive=True)


def test_two_networks_side_by_side_are_described(extractor, paths, tmp_path) -> None:
    networks = (extractor.backbone, Backbone.load("compact"))
    both = EmbeddingExtractor(networks, layer=("embedding", "pooled"), views=("plain", "mirror"), cache=None)
    write_shard(paths[:4], tmp_path, both)
    found = shard_extractor(tmp_path, networks)
    assert [recipe.json for recipe in found.recipes()] == [recipe.json for recipe in both.recipes()]
    np.testing.assert_array_equal(
        open_shards(tmp_path).data, found.set_params(cache=None).transform(paths[:4])
    )
    with pytest.raises(ValueError, match="made with 2 networks"):
        shard_extractor(tmp_path, "compact")
