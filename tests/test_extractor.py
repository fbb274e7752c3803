"""The transformer: order, copies, cache, failures, pickles."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.base import clone

from agegender import EmbeddingExtractor
from agegender.backbones import Backbone
from agegender.cache import open_cache
from agegender.exceptions import CacheError, CacheWarning, PictureError, WeightsNotFoundError
from agegender.persistence import load_model, save_model


def test_rows_are_those_of_the_network_run_by_hand(backbone, tiny_onnx, paths) -> None:
    import cv2
    import onnxruntime

    session = onnxruntime.InferenceSession(tiny_onnx)
    pixels = np.stack([cv2.resize(cv2.imread(path)[..., ::-1], (24, 24)) for path in paths])
    fed = ((pixels.astype(np.float32) - 127.5) / 128).transpose(0, 3, 1, 2)
    expected = session.run(None, {"data": fed})[0]
    rows = EmbeddingExtractor(backbone, layer="embedding").transform(paths)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, expected, rtol=1e-4, atol=1e-4)


def test_every_kind_of_picture_gives_the_same_row(backbone, paths) -> None:
    path = Path(paths[0])
    image = Image.open(path)
    pixels = np.asarray(image)
    rows = EmbeddingExtractor(backbone).transform([path, str(path), path.read_bytes(), image, pixels])
    np.testing.assert_array_equal(rows[1:], np.repeat(rows[:1], 4, axis=0))
    np.testing.assert_array_equal(EmbeddingExtractor(backbone).transform(pixels[np.newaxis]), rows[:1])


def test_copies_pass_through_the_network_once_and_rows_keep_their_order(backbone, paths, tmp_path) -> None:
    copy = tmp_path / "copy.jpg"
    copy.write_bytes(Path(paths[1]).read_bytes())
    extractor = EmbeddingExtractor(backbone, batch_size=2)
    rows = extractor.transform([paths[0], paths[1], paths[2], copy, paths[0]])
    report = extractor.report_
    assert (report.n_images, report.n_unique, report.n_cached, report.n_computed) == (5, 3, 0, 3)
    np.testing.assert_array_equal(rows[3], rows[1])
    np.testing.assert_array_equal(rows[4], rows[0])
    assert not np.array_equal(rows[0], rows[1])


def test_adding_one_picture_computes_one(backbone, paths) -> None:
    extractor = EmbeddingExtractor(backbone)
    extractor.transform(paths[:-1])
    extractor.transform(paths)
    assert (extractor.report_.n_cached, extractor.report_.n_computed) == (len(paths) - 1, 1)


@pytest.mark.parametrize(
    "change",
    [{"batch_size": 3}, {"n_jobs": 1}, {"verbose": 1}, {"on_error": "nan"}],
    ids=lambda c: next(iter(c)),
)
def test_what_does_not_change_numbers_never_misses_the_cache(backbone, paths, change) -> None:
    before = EmbeddingExtractor(backbone).transform(paths)
    extractor = EmbeddingExtractor(backbone, **change)
    np.testing.assert_array_equal(extractor.transform(paths), before)
    assert extractor.report_.n_computed == 0


def test_what_changes_numbers_is_never_served_from_the_cache(tiny_onnx, backbone, paths) -> None:
    plain = EmbeddingExtractor(backbone, layer="pooled").transform(paths)
    others = [
        EmbeddingExtractor(backbone, layer="pooled", crop=0.1),
        EmbeddingExtractor(Backbone.from_onnx(tiny_onnx, mean=0.0, scale=1 / 128), layer="pooled"),
        EmbeddingExtractor(Backbone.from_onnx(tiny_onnx, scale=1 / 127.5), layer="pooled"),
        EmbeddingExtractor(Backbone.from_onnx(tiny_onnx, color="bgr"), layer="pooled"),
        EmbeddingExtractor(backbone, layer="penultimate"),
    ]
    for other in others:
        rows = other.transform(paths)
        assert other.report_.n_computed == len(paths)
        assert not np.allclose(rows, plain)


def test_a_layer_by_two_names_is_computed_once(backbone, paths) -> None:
    EmbeddingExtractor(backbone, layer="embedding").transform(paths)
    by_name = EmbeddingExtractor(backbone, layer=backbone.resolve_layer("embedding"))
    by_name.transform(paths)
    assert by_name.report_.n_computed == 0


def test_new_content_under_an_old_name_is_embedded_anew(backbone, paths, tmp_path) -> None:
    picture = tmp_path / "face.jpg"
    picture.write_bytes(Path(paths[0]).read_bytes())
    extractor = EmbeddingExtractor(backbone)
    before = extractor.transform([picture])
    picture.write_bytes(Path(paths[1]).read_bytes())
    after = extractor.transform([picture])
    assert extractor.report_.n_computed == 1
    assert not np.array_equal(before, after)


@pytest.fixture
def bytes_read(monkeypatch) -> list[int]:
    """How many bytes came from files, read by read."""
    from agegender import images

    numbers: list[int] = []
    read_file = images.read_file

    def counted(path):
        content = read_file(path)
        numbers.append(len(content))
        return content

    monkeypatch.setattr(images, "read_file", counted)
    return numbers


@pytest.fixture
def resting(paths, tmp_path) -> list[Path]:
    """Ten files that have not changed for an hour."""
    files = [tmp_path / f"{number}.jpg" for number in range(10)]
    for file, path in zip(files, paths, strict=False):
        file.write_bytes(Path(path).read_bytes())
        os.utime(file, (time.time() - 3600,) * 2)
    return files


def test_every_call_hashes_every_file(backbone, resting, bytes_read) -> None:
    extractor = EmbeddingExtractor(backbone)
    extractor.transform(resting)
    bytes_read.clear()
    extractor.transform(resting)
    assert sum(bytes_read) == sum(file.stat().st_size for file in resting)


def test_a_file_that_looks_as_it_did_is_hashed_once_where_that_is_trusted(
    backbone, resting, bytes_read
) -> None:
    extractor = EmbeddingExtractor(backbone, trust_mtime=True)
    rows = extractor.transform(resting)
    bytes_read.clear()
    np.testing.assert_array_equal(extractor.transform(resting), rows)
    assert bytes_read == []
    assert extractor.report_.n_cached == 10
    # The same content in another inode, another content of another time.
    other = resting[0].with_name("other")
    other.write_bytes(resting[0].read_bytes())
    os.utime(other, ns=(resting[0].stat().st_mtime_ns,) * 2)
    os.replace(other, resting[0])
    resting[1].write_bytes(resting[2].read_bytes())
    expected = rows.copy()
    expected[1] = rows[2]
    np.testing.assert_array_equal(extractor.transform(resting), expected)
    assert len(bytes_read) == 2


def test_a_file_changed_a_moment_ago_is_not_trusted(backbone, resting, bytes_read) -> None:
    extractor = EmbeddingExtractor(backbone, trust_mtime=True)
    for file in resting:
        file.touch()
    extractor.transform(resting)
    bytes_read.clear()
    extractor.transform(resting)
    assert len(bytes_read) == 10


def test_without_a_cache_nothing_is_written(backbone, paths, own_home) -> None:
    extractor = EmbeddingExtractor(backbone, cache=None)
    rows = extractor.transform(paths)
    assert extractor.report_.n_computed == len(paths)
    assert not list(own_home.rglob("*.sqlite"))
    np.testing.assert_array_equal(rows, EmbeddingExtractor(backbone).transform(paths))


def test_feature_maps_come_out_channels_last(backbone, paths) -> None:
    maps = EmbeddingExtractor(backbone, layer="feature_map").transform(paths)
    pooled = EmbeddingExtractor(backbone, layer="pooled").transform(paths)
    assert maps.shape == (len(paths), 3, 3, 12)
    np.testing.assert_allclose(maps.mean(axis=(1, 2)), pooled, rtol=1e-5, atol=1e-6)


def test_a_bad_picture_is_an_error_that_names_it(backbone, paths, tmp_path) -> None:
    missing = str(tmp_path / "nobody.jpg")
    with pytest.raises(PictureError, match=r"nobody\.jpg"):
        EmbeddingExtractor(backbone).transform([paths[0], missing])


def test_bad_pictures_cost_a_row_of_nan_and_a_line_in_the_report(backbone, paths, tmp_path) -> None:
    text, half = tmp_path / "text.jpg", tmp_path / "half.jpg"
    text.write_text("not a picture")
    half.write_bytes(Path(paths[0]).read_bytes()[:400])
    extractor = EmbeddingExtractor(backbone, on_error="nan", batch_size=2)
    rows = extractor.transform([paths[0], text, half, paths[1], half, tmp_path / "missing.jpg"])
    assert np.isnan(rows[[1, 2, 4, 5]]).all()
    assert np.isfinite(rows[[0, 3]]).all()
    assert [failure.index for failure in extractor.report_.failures] == [1, 2, 4, 5]
    assert str(half) in extractor.report_.failures[1].picture
    extractor.transform([half])
    assert extractor.report_.n_cached == 0


def test_a_corrupt_picture_amid_ten_thousand_costs_a_row_and_a_line(backbone, paths) -> None:
    # A comment with a number in it makes another content of the same pixels.
    whole = [Path(path).read_bytes() for path in paths]
    contents = [
        whole[i % 60][:2] + b"\xff\xfe\x00\x06" + i.to_bytes(4, "big") + whole[i % 60][2:]
        for i in range(10_000)
    ]
    contents[5000] = contents[5000][:500] + b"\0" * 300
    extractor = EmbeddingExtractor(backbone, on_error="nan")
    rows = extractor.transform(contents)
    (failure,) = extractor.report_.failures
    assert (failure.index, failure.picture) == (5000, "bytes (800)")
    assert "truncated JPEG" in failure.reason
    assert extractor.report_.n_computed == 9_999
    assert np.flatnonzero(np.isnan(rows).any(axis=1)).tolist() == [5000]
    sound = np.delete(np.arange(10_000), 5000)
    np.testing.assert_allclose(rows[sound], rows[sound % 60], rtol=1e-5, atol=1e-5)


def test_a_cache_that_cannot_be_written_costs_a_warning_or_the_run(backbone, paths, tmp_path) -> None:
    (tmp_path / "file").write_text("in the way")
    expected = EmbeddingExtractor(backbone, cache=None).transform(paths)
    extractor = EmbeddingExtractor(backbone, cache=tmp_path / "file", batch_size=7)
    with pytest.warns(CacheWarning, match="continues without it") as caught:
        rows = extractor.transform(paths)
    assert len(caught) == 1
    np.testing.assert_allclose(rows, expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(CacheError, match="cannot be written"):
        extractor.set_params(on_cache_error="raise").transform(paths)


def test_ctrl_c_where_nothing_can_be_kept_says_so(backbone, paths, tmp_path, monkeypatch) -> None:
    from agegender._extraction import task as module

    (tmp_path / "file").write_text("in the way")

    def stop_at_the_second(*args, **kwargs):
        network, batches = open_network(*args, **kwargs), iter([True])

        def run(batch):
            if next(batches, False):
                return network(batch)
            raise KeyboardInterrupt

        return run

    open_network = module.open_network
    monkeypatch.setattr(module, "open_network", stop_at_the_second)
    extractor = EmbeddingExtractor(backbone, cache=tmp_path / "file", batch_size=7)
    with pytest.warns(CacheWarning), pytest.raises(KeyboardInterrupt) as stop:
        extractor.transform(paths)
    assert stop.value.__notes__ == [
        "7 pictures were computed; not all of them are cached, because the cache could not be written: see its "
        "warning."
    ]


def test_out_is_filled_where_it_is_given(backbone, paths, tmp_path) -> None:
    out = np.lib.format.open_memmap(tmp_path / "rows.npy", "w+", np.float16, (len(paths), 16))
    rows = EmbeddingExtractor(backbone, layer="embedding").transform(paths, out=out)
    assert rows is out
    expected = EmbeddingExtractor(backbone, layer="embedding").transform(paths)
    np.testing.assert_allclose(rows, expected, rtol=1e-2, atol=1e-2)
    with pytest.raises(ValueError, match="out has shape"):
        EmbeddingExtractor(backbone, layer="embedding").transform(paths[:2], out=out)


def test_frames_and_columns_of_paths_are_read(backbone, paths) -> None:
    expected = EmbeddingExtractor(backbone).transform(paths)
    column = pd.Series(paths, index=range(100, 100 + len(paths)))
    for X in (column, column.to_frame("path"), np.array(paths), np.array(paths, dtype=object)[:, np.newaxis]):
        np.testing.assert_array_equal(EmbeddingExtractor(backbone).transform(X), expected)


def test_set_output_gives_a_frame_with_named_columns(backbone, paths) -> None:
    extractor = EmbeddingExtractor(backbone, layer="embedding").set_output(transform="pandas")
    frame = extractor.fit(paths).transform(paths)
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.columns[:2]) == ["tiny_embedding_0", "tiny_embedding_1"]
    with pytest.raises(ValueError, match="do not fit into a table"):
        extractor.set_params(layer="feature_map").transform(paths)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ("anna.jpg", "one picture"),
        (b"\xff\xd8", "one picture"),
        ([], "0 sample"),
        (np.zeros((24, 24, 3), np.uint8), "one picture of shape"),
        (np.zeros((5, 7)), r"shape \(5, 7\)"),
        (pd.DataFrame({"a": ["x"], "b": ["y"]}), "columns"),
        (7, "int"),
    ],
    ids=["path", "bytes", "empty", "array", "numbers", "frame", "int"],
)
def test_an_x_that_is_no_list_of_pictures_is_refused_by_name(backbone, X, message) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        EmbeddingExtractor(backbone).transform(X)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"backbone": "arcfase"}, "arcface"),
        ({"layer": "penultimte"}, "penultimate"),
        ({"engine": "onix"}, "onnx"),
        ({"on_error": "skip"}, "on_error"),
        ({"on_cache_error": "ignore"}, "on_cache_error"),
        ({"crop": 0.5}, "crop"),
        ({"dtype": "half"}, "float16"),
        ({"batch_size": 0}, "batch_size"),
        ({"faces": "mctnn"}, "Did you mean 'mtcnn'"),
        ({"framing": "utkfaces"}, "framing"),
    ],
    ids=lambda value: str(value),
)
def test_a_bad_parameter_is_refused_with_the_rule(backbone, paths, params, message) -> None:
    with pytest.raises(ValueError, match=message):
        EmbeddingExtractor(**{"backbone": backbone} | params).transform(paths)


def test_an_unfitted_extractor_pickles_without_its_network(backbone, paths) -> None:
    extractor = EmbeddingExtractor(backbone)
    rows = extractor.transform(paths)
    pickled = pickle.dumps(extractor)
    assert len(pickled) < 4000
    np.testing.assert_array_equal(pickle.loads(pickled).transform(paths), rows)


def test_a_fitted_extractor_carries_its_small_network_to_another_machine(tiny_onnx, paths, tmp_path) -> None:
    moved = tmp_path / "moved.onnx"
    moved.write_bytes(tiny_onnx.read_bytes())
    extractor = EmbeddingExtractor(Backbone.from_onnx(moved), cache=None).fit()
    rows = extractor.transform(paths)
    pickled = pickle.dumps(extractor)
    moved.unlink()
    arrived = pickle.loads(pickled)
    np.testing.assert_array_equal(arrived.transform(paths), rows)
    np.testing.assert_array_equal(clone(arrived).transform(paths), rows)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(arrived)).transform(paths), rows)


def test_a_network_that_is_gone_is_named_with_its_hash(tiny_onnx, tmp_path) -> None:
    script = """
import pickle, sys
from agegender import EmbeddingExtractor
import numpy as np
extractor = pickle.load(open(sys.argv[1], "rb"))
try:
    extractor.transform(np.zeros((1, 8, 8, 3), np.uint8))
except FileNotFoundError as error:
    print(error)
"""
    moved = tmp_path / "moved.onnx"
    moved.write_bytes(tiny_onnx.read_bytes())
    backbone = Backbone.from_onnx(moved)
    (tmp_path / "extractor.pkl").write_bytes(pickle.dumps(EmbeddingExtractor(backbone, cache=None)))
    moved.unlink()
    command = [sys.executable, "-c", script, str(tmp_path / "extractor.pkl")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert backbone.sha256 in said
    assert "moved.onnx" in said
    assert issubclass(WeightsNotFoundError, FileNotFoundError)


def test_clone_keeps_parameters_and_forgets_reports(backbone, paths) -> None:
    extractor = EmbeddingExtractor(backbone, crop=0.05)
    extractor.transform(paths)
    copy = clone(extractor)
    assert copy.get_params() == extractor.get_params()
    assert not hasattr(copy, "report_")


def test_a_killed_run_loses_at_most_a_batch(tiny_onnx, tmp_path) -> None:
    script = """
import sys, numpy as np
from agegender import EmbeddingExtractor
from agegender.backbones import Backbone
X = np.random.default_rng(0).integers(0, 255, (4000, 24, 24, 3), dtype=np.uint8)
extractor = EmbeddingExtractor(Backbone.from_onnx(sys.argv[1]), batch_size=8, cache=sys.argv[2])
print("go", flush=True)
extractor.transform(X)
print("finished", flush=True)
"""
    command = [sys.executable, "-c", script, str(tiny_onnx), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "go\n"
        database = tmp_path / "embeddings.sqlite"
        deadline = time.monotonic() + 30
        while _n_rows(database) < 40 and time.monotonic() < deadline:
            pass
        process.send_signal(signal.SIGKILL)
    kept = _n_rows(database)
    extractor = EmbeddingExtractor(Backbone.from_onnx(tiny_onnx), batch_size=8, cache=tmp_path)
    X = np.random.default_rng(0).integers(0, 255, (4000, 24, 24, 3), dtype=np.uint8)
    extractor.transform(X)
    assert kept >= 40
    assert extractor.report_.n_cached >= kept
    assert extractor.report_.n_cached + extractor.report_.n_computed == 4000


INTERRUPTED = """
import signal, sys, numpy as np
from agegender import EmbeddingExtractor
from agegender.backbones import Backbone
# A shell that starts a job in the background lets it ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
X = np.random.default_rng(0).integers(0, 255, (40_000, 24, 24, 3), dtype=np.uint8)
for directory in sys.argv[2:]:
    extractor = EmbeddingExtractor(Backbone.from_onnx(sys.argv[1]), batch_size=8, cache=directory)
    print("go", flush=True)
    try:
        extractor.transform(X)
    except KeyboardInterrupt as stop:
        print(extractor.report_.n_computed, *stop.__notes__, flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT")
def test_ctrl_c_at_any_moment_leaves_the_cache_whole(tiny_onnx, tmp_path) -> None:
    directories = {n_rows: tmp_path / f"after {n_rows}" for n_rows in (1, 60, 1000)}
    command = [sys.executable, "-c", INTERRUPTED, str(tiny_onnx), *map(str, directories.values())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for n_rows, directory in directories.items():
            assert process.stdout.readline() == "go\n"
            database = directory / "embeddings.sqlite"
            deadline = time.monotonic() + 60
            while _n_rows(database) < n_rows and time.monotonic() < deadline:
                time.sleep(0.001)
            process.send_signal(signal.SIGINT)
            n_computed, _, note = process.stdout.readline().partition(" ")
            assert note.endswith(
                "pictures were computed and are cached; the same call continues from there.\n"
            )
            assert int(n_computed) >= n_rows // 8 * 8
            # The batch that was being stored may be kept and not counted.
            assert int(n_computed) <= _n_rows(database) <= int(n_computed) + 8
            assert open_cache(directory).verify() == 0
            assert not list(directory.glob("*.damaged-*"))


def _n_rows(database: Path) -> int:
    if not database.exists():
        return 0
    return open_cache(database.parent).info().n_rows


def test_ctrl_c_keeps_what_was_done_and_says_how_to_go_on(backbone, paths, monkeypatch) -> None:
    from agegender._extraction import task as module

    real = module.open_network

    def stop_after_two(*args, **kwargs):
        network, calls = real(*args, **kwargs), []

        def run(batch):
            calls.append(1)
            if len(calls) > 2:
                raise KeyboardInterrupt
            return network(batch)

        return run

    monkeypatch.setattr(module, "open_network", stop_after_two)
    extractor = EmbeddingExtractor(backbone, batch_size=10)
    with pytest.raises(KeyboardInterrupt) as stop:
        extractor.transform(paths)
    assert "20 pictures were computed and are cached" in stop.value.__notes__[0]
    monkeypatch.setattr(module, "open_network", real)
    extractor.transform(paths)
    assert extractor.report_.n_cached == 20


def test_half_precision_halves_the_rows_and_reads_those_kept_in_full(backbone, paths) -> None:
    full = EmbeddingExtractor(backbone).transform(paths[:2])
    half = EmbeddingExtractor(backbone, dtype="float16")
    rows = half.transform(paths)
    assert rows.dtype == np.float16
    assert (half.report_.n_cached, half.report_.n_computed) == (2, len(paths) - 2)
    np.testing.assert_array_equal(rows[:2], full.astype(np.float16))
    np.testing.assert_array_equal(half.transform(paths), rows)
    assert half.report_.n_computed == 0
    again = EmbeddingExtractor(backbone)
    again.transform(paths)
    assert again.report_.n_computed == len(paths) - 2


def test_numbers_too_large_for_half_precision_are_an_error_with_the_remedy(tiny_onnx, paths) -> None:
    backbone = Backbone.from_onnx(tiny_onnx, scale=10_000.0)
    for _ in range(2):
        with pytest.raises(ValueError, match=r'more than half precision holds.*dtype="float32"'):
            EmbeddingExtractor(backbone, dtype="float16").transform(paths)
        EmbeddingExtractor(backbone).transform(paths)


def test_what_names_a_file_is_refused_beside_a_network_that_has_one(backbone, tiny_onnx, paths) -> None:
    for given in ({"weights": "arcface_weights.h5"}, {"engine": "onnx"}):
        extractor = EmbeddingExtractor(backbone, cache=None, **given)
        for call in (extractor.fit, lambda used=extractor: used.transform(paths)):
            with pytest.raises(
                ValueError, match=r"(weights|engine)=.* need a network given by name; <Backbone tiny"
            ):
                call()
    with pytest.raises(ValueError, match="is an ONNX file, which has no Keras form"):
        EmbeddingExtractor(str(tiny_onnx), engine="keras", cache=None).fit()


def test_halves_are_the_same_numbers_wherever_they_come_from_and_go_to(backbone, paths, tmp_path) -> None:
    half = EmbeddingExtractor(backbone, dtype="float16", cache=tmp_path)
    expected = EmbeddingExtractor(backbone, dtype="float16", cache=None).transform(paths).astype(np.float32)
    full = EmbeddingExtractor(backbone, cache=tmp_path)
    full.transform(paths[::2])  # half of them are kept in full
    for _ in ("some computed, some kept in full", "all kept"):
        out = half.transform(paths, out=np.empty(expected.shape, np.float32))
        np.testing.assert_array_equal(out, expected)
    without = EmbeddingExtractor(backbone, dtype="float16", cache=None)
    np.testing.assert_array_equal(
        without.transform(paths, out=np.empty(expected.shape, np.float32)), expected
    )


def test_progress_is_shown_while_pictures_are_hashed(backbone, paths, capsys) -> None:
    EmbeddingExtractor(backbone, cache=None, verbose=1).transform(paths)
    said = capsys.readouterr().err
    assert "reading: 100%" in said
    assert f"{len(paths)}/{len(paths)}" in said


def test_parameters_set_after_fit_count_in_a_pickle_too(backbone, paths) -> None:
    extractor = EmbeddingExtractor(backbone, cache=None).fit().set_params(crop=0.3)
    expected = EmbeddingExtractor(backbone, cache=None, crop=0.3).transform(paths)
    np.testing.assert_array_equal(extractor.transform(paths), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(extractor)).transform(paths), expected)


def test_a_safe_file_takes_a_list_of_networks_and_paths(tiny_onnx, backbone, paths, tmp_path) -> None:
    extractor = EmbeddingExtractor([backbone, tiny_onnx], layer="embedding", cache=None)
    expected = extractor.transform(paths)
    for model in (clone(extractor), extractor.fit()):
        loaded = load_model(save_model(model, tmp_path / "extractor.agegender"))
        np.testing.assert_array_equal(loaded.transform(paths), expected)
