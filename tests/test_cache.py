"""The cache: what is kept comes back, nothing else does, and nothing that happens to the file makes a wrong row."""

from __future__ import annotations

import dataclasses
import inspect
import os
import pickle
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from unprivileged import not_root

from agegender._cache import file as cache_file
from agegender._cache import statements
from agegender.cache import EmbeddingCache, Recipe, open_cache
from agegender.exceptions import CacheError, CacheWarning

FIELDS = {
    "network": "6336979c",
    "layer": "fc1",
    "input_size": (112, 112),
    "color": "bgr",
    "mean": 127.5,
    "scale": 1 / 128,
    "crop": 0.0,
    "faces": None,
    "view": "plain",
    "preprocessing": 1,
    "dtype": "float32",
}
RECIPE = Recipe(**FIELDS)
OTHER = dataclasses.replace(RECIPE, crop=0.1)


def name(i: int) -> bytes:
    return i.to_bytes(16, "big")


def row_of(content: bytes, width: int = 32) -> np.ndarray:
    """Give the one right row of a content, so that any other is known to be wrong."""
    seed = int.from_bytes(content, "big")
    return np.random.default_rng(seed).normal(size=width).astype(np.float32)


def rows_of(contents: list[bytes], width: int = 32) -> np.ndarray:
    return np.stack([row_of(content, width) for content in contents])


def fill(cache: EmbeddingCache, n: int = 300, width: int = 32, recipe: Recipe = RECIPE) -> list[bytes]:
    contents = [name(i) for i in range(n)]
    for start in range(0, n, 50):
        part = contents[start : start + 50]
        cache.store(recipe, part, rows_of(part, width))
    return contents


def load(cache: EmbeddingCache, contents: list[bytes], width: int = 32, recipe: Recipe = RECIPE):
    out = np.full((len(contents), width), np.nan, dtype=np.float32)
    return cache.load(recipe, contents, out), out


def check_never_wrong(cache: EmbeddingCache, contents: list[bytes], width: int = 32) -> int:
    """Assert that what is served is right and what is not served is left alone; return how much was served."""
    found, out = load(cache, contents, width)
    np.testing.assert_array_equal(out[found], rows_of(contents, width)[found])
    assert np.isnan(out[~found]).all()
    return int(found.sum())


@pytest.fixture
def cache(tmp_path):
    cache = EmbeddingCache(tmp_path / "cache")
    yield cache
    cache.close()


# Round trips


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    rows=hnp.arrays(
        st.sampled_from([np.float32, np.float16]),
        hnp.array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=6),
        elements=st.floats(width=16, allow_nan=False),
    ),
    stored=st.sampled_from(["float32", "float16"]),
    data=st.data(),
)
def test_what_is_stored_comes_back_bit_for_bit(rows, stored, data) -> None:
    digests = st.binary(min_size=16, max_size=16)
    contents = data.draw(st.lists(digests, min_size=len(rows), max_size=len(rows), unique=True))
    order = data.draw(st.permutations(range(len(rows))))
    recipe = dataclasses.replace(RECIPE, dtype=stored)
    with tempfile.TemporaryDirectory() as directory:
        cache = EmbeddingCache(directory)
        cache.store(recipe, contents, rows)
        out = np.zeros_like(rows)
        found = cache.load(recipe, [contents[i] for i in order], out)
        cache.close()
    assert found.all()
    assert out.tobytes() == rows[list(order)].tobytes()


def test_rows_unknown_are_left_as_they_are(cache) -> None:
    fill(cache, 10)
    contents = [name(i) for i in range(5, 15)]
    found, out = load(cache, contents)
    assert found.tolist() == [True] * 5 + [False] * 5
    np.testing.assert_array_equal(out[:5], rows_of(contents[:5]))
    assert np.isnan(out[5:]).all()


def test_a_content_asked_for_twice_fills_both_rows(cache) -> None:
    fill(cache, 3)
    asked = [name(2), name(0), name(2), name(9), name(9)]
    found, out = load(cache, asked)
    assert found.tolist() == [True, True, True, False, False]
    np.testing.assert_array_equal(out[:3], rows_of(asked[:3]))


def test_rows_go_to_a_memory_map_of_half_precision(cache, tmp_path) -> None:
    contents = fill(cache, 40)
    out = np.lib.format.open_memmap(tmp_path / "rows.npy", "w+", dtype=np.float16, shape=(40, 32))
    assert cache.load(RECIPE, contents, out).all()
    np.testing.assert_array_equal(out, rows_of(contents).astype(np.float16))


def test_feature_maps_larger_than_a_chunk_come_back_in_shape(cache, monkeypatch) -> None:
    monkeypatch.setattr(statements, "CHUNK_BYTES", 5000)
    maps = np.random.default_rng(0).normal(size=(9, 3, 3, 40)).astype(np.float32)
    contents = [name(i) for i in range(9)]
    cache.store(RECIPE, contents, maps)
    out = np.zeros_like(maps)
    assert cache.load(RECIPE, contents[::-1], out).all()
    np.testing.assert_array_equal(out, maps[::-1])


def test_a_row_known_already_stays_as_it_is(cache) -> None:
    cache.store(RECIPE, [name(1)], np.ones((1, 4), np.float32))
    cache.store(RECIPE, [name(1), name(2), name(2)], np.full((3, 4), 2, np.float32))
    _, out = load(cache, [name(1), name(2)], 4)
    assert out[:, 0].tolist() == [1, 2]
    assert cache.info().n_rows == 2


def test_numbers_lie_on_disk_as_raw_little_endian_bytes(cache) -> None:
    rows = rows_of([name(1)])
    cache.store(RECIPE, [name(1)], rows.astype(">f4"))
    cache.close()
    with sqlite3.connect(cache.path) as db:
        ((blob,),) = db.execute("SELECT data FROM rows")
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert db.execute("PRAGMA page_size").fetchone() == (16384,)
    db.close()
    np.testing.assert_array_equal(np.frombuffer(blob, "<f4"), rows[0])


def test_loading_twenty_thousand_rows_takes_a_statement_for_hundreds(cache) -> None:
    contents = [name(i) for i in range(20_000)]
    cache.store(RECIPE, contents, np.zeros((20_000, 8), np.float32))
    statements = []
    cache._file.attempt("read", lambda db: db.set_trace_callback(statements.append))
    found, _ = load(cache, contents, 8)
    assert found.all()
    assert len(statements) < 100


# Keys


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("network", "6336979d"),
        ("layer", "fc2"),
        ("input_size", (112, 113)),
        ("color", "rgb"),
        ("mean", np.nextafter(127.5, 128)),
        ("mean", (127.5, 127.5, 127.0)),
        ("scale", 1 / 127.5),
        ("crop", 1e-17),
        ("faces", "mtcnn"),
        ("view", "mirrored"),
        ("preprocessing", 2),
        ("dtype", "float16"),
    ],
)
def test_changing_any_field_never_serves_an_old_row(cache, field, value) -> None:
    fill(cache, 1)
    changed = dataclasses.replace(RECIPE, **{field: value})
    assert changed.digest != RECIPE.digest
    assert not load(cache, [name(0)], recipe=changed)[0].any()
    assert set(FIELDS) == {f.name for f in dataclasses.fields(Recipe)}


@pytest.mark.parametrize(
    ("field", "one", "same"),
    [
        ("mean", 127, np.float32(127.0)),
        ("mean", (104, 117, 123), np.array([104.0, 117.0, 123.0])),
        ("scale", 1 / 128, np.float64(1 / 128)),
        ("crop", 0, -0.0),
        ("input_size", (112, 112), [np.int64(112), 112]),
        ("preprocessing", 1, np.int32(1)),
    ],
)
def test_the_same_number_written_otherwise_makes_the_same_key(field, one, same) -> None:
    one = dataclasses.replace(RECIPE, **{field: one})
    same = dataclasses.replace(RECIPE, **{field: same})
    assert one.digest == same.digest
    assert one == same


@given(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(allow_nan=False, allow_infinity=False),
)
def test_two_scales_make_one_key_only_when_equal(one, other) -> None:
    digests = [dataclasses.replace(RECIPE, scale=scale).digest for scale in (one, other)]
    assert (digests[0] == digests[1]) == (one == other)


def test_a_recipe_that_is_no_recipe_is_refused() -> None:
    with pytest.raises(ValueError, match="mean=nan should be finite"):
        dataclasses.replace(RECIPE, mean=float("nan"))
    with pytest.raises(ValueError, match="dtype='float64' is not one of 'float32', 'float16'"):
        dataclasses.replace(RECIPE, dtype="float64")


@pytest.mark.parametrize(
    ("contents", "rows", "message"),
    [
        ([name(1)], np.zeros((2, 3), np.float32), "1 pictures and 2 rows"),
        ([name(1)], np.zeros(1, np.float32), r"shape \(1,\) should be \(n, …\)"),
        ([name(1)], np.zeros((1, 0), np.float32), "at least one number"),
        ([name(1)], np.zeros((1, 3), np.int32), "dtype int32 should be"),
        (["1"], np.zeros((1, 3), np.float32), "16 bytes of its digest"),
        ([b"1"], np.zeros((1, 3), np.float32), "16 bytes of its digest"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(cache, contents, rows, message) -> None:
    for method in (cache.load, cache.store):
        with pytest.raises(ValueError, match=message):
            method(RECIPE, contents, rows)


def test_one_recipe_gives_one_shape(cache) -> None:
    contents = fill(cache, 2)
    for method in (cache.load, cache.store):
        with pytest.raises(ValueError, match=r"shape \(4, 8\).*have shape \(32,\)"):
            method(RECIPE, contents, np.zeros((2, 4, 8), np.float32))
    assert check_never_wrong(cache, contents) == 2


# Opening


def test_auto_is_the_home_directory(own_home, monkeypatch, tmp_path) -> None:
    assert open_cache("auto").directory == own_home / "agegender"
    monkeypatch.setenv("AGEGENDER_HOME", str(tmp_path / "elsewhere"))
    assert open_cache("auto").directory == tmp_path / "elsewhere"
    assert open_cache(tmp_path).directory == tmp_path
    assert open_cache(None) is None


def test_what_is_no_cache_is_refused() -> None:
    with pytest.raises(TypeError, match="cache=True should be 'auto', a directory or None"):
        open_cache(True)
    with pytest.raises(ValueError, match="on_error='ignore' is not one of 'warn', 'raise'"):
        open_cache("x", on_error="ignore")


def test_nothing_is_written_before_the_first_row(cache) -> None:
    assert not load(cache, [name(1)])[0].any()
    assert cache.info().n_rows == 0
    assert cache.prune(0) == 0
    cache.clear()
    assert not cache.directory.exists()


def test_a_pickle_carries_the_directory_alone(cache) -> None:
    contents = fill(cache, 5)
    data = pickle.dumps(EmbeddingCache(cache.directory, on_error="raise"))
    copy = pickle.loads(data)
    assert len(data) < 500
    assert (copy.directory, copy.on_error) == (cache.directory, "raise")
    assert check_never_wrong(copy, contents) == 5


def test_a_closed_cache_opens_again(cache) -> None:
    contents = fill(cache, 5)
    cache.close()
    assert check_never_wrong(cache, contents) == 5


def test_a_newer_layout_is_refused_with_advice_and_left_alone(cache) -> None:
    contents = fill(cache, 5)
    _header(cache, user_version=7, application_id=statements.APPLICATION_ID + 7)
    before = cache.path.read_bytes()
    for action in (lambda: load(cache, contents), lambda: fill(cache, 5), cache.info, cache.clear):
        with pytest.raises(CacheError, match=r"embeddings\.sqlite: It has layout 7.*Upgrade agegender"):
            action()
    assert cache.path.read_bytes() == before


def test_somebody_elses_database_is_left_alone(cache) -> None:
    cache.directory.mkdir()
    db = sqlite3.connect(cache.path)
    db.execute("CREATE TABLE theirs (x)")
    db.close()
    with pytest.raises(CacheError, match="of another application"):
        fill(cache, 1)
    assert os.listdir(cache.directory) == ["embeddings.sqlite"]


def _header(cache: EmbeddingCache, **values: int) -> None:
    cache.close()
    db = sqlite3.connect(cache.path)
    for pragma, value in values.items():
        db.execute(f"PRAGMA {pragma}={value}")
    db.close()


# Threads, forks, processes


def test_eight_threads_share_one_cache(cache) -> None:
    contents = [name(i) for i in range(400)]
    start = threading.Barrier(8)

    def work(k: int) -> int:
        start.wait()
        for i in range(20):
            part = contents[(k * 25 + i * 20) % 380 :][:20]
            cache.store(RECIPE, part, rows_of(part))
            assert check_never_wrong(cache, part) == len(part)
        return k

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(work, range(8))) == list(range(8))
    assert check_never_wrong(cache, contents) == cache.info().n_rows


# What a script needs of this module; importing it whole would take longer than the script.
TOOLS = "\n".join(
    [
        "import os, sys",
        "import numpy as np",
        "from agegender.cache import EmbeddingCache, Recipe",
        f"RECIPE = Recipe(**{FIELDS!r})",
        *map(inspect.getsource, (name, row_of, rows_of, fill, load, check_never_wrong)),
    ]
)
WRITER = """
directory, first, last, step = sys.argv[1], *map(int, sys.argv[2:])
cache = EmbeddingCache(directory, on_error="raise")
for start in range(first, last, step):
    contents = [name(i) for i in range(start, start + step)]
    cache.store(RECIPE, contents, rows_of(contents, 512))
    print(start, flush=True)
"""


def writer(directory: Path, first: int, last: int, step: int = 20) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", TOOLS + WRITER, str(directory), str(first), str(last), str(step)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_three_processes_write_overlapping_rows_into_a_new_file(cache) -> None:
    writers = [writer(cache.directory, first, first + 600) for first in (0, 300, 410)]
    assert [w.communicate()[0].count("\n") for w in writers] == [30, 30, 30]
    assert [w.returncode for w in writers] == [0, 0, 0]
    assert check_never_wrong(cache, [name(i) for i in range(1010)], 512) == 1010
    assert cache.info().n_rows == 1010


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_writers_lose_at_most_the_batch_they_were_at(cache) -> None:
    rng = random.Random(0)
    kept: set[int] = set()
    for _ in range(3):
        writers = [writer(cache.directory, first, 10**9) for first in (0, 3000, 6000)]
        said = [[w.stdout.readline() for _ in range(rng.randrange(1, 30))] for w in writers]
        for w in writers:
            w.kill()
        for w, lines in zip(writers, said, strict=True):
            whole = "".join(lines) + w.communicate()[0]
            kept.update(int(line) + i for line in whole.splitlines() for i in range(20))
        contents = [name(i) for i in sorted(kept)]
        assert check_never_wrong(cache, contents, 512) == len(kept)
        assert cache.info().n_rows <= len(kept) + 3 * 20
        cache.close()
    db = sqlite3.connect(cache.path)
    assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.close()


FORKER = """
cache = EmbeddingCache(sys.argv[1], on_error="raise")
contents = fill(cache, 50)
children = []
for k in range(3):
    pid = os.fork()
    if pid == 0:
        assert check_never_wrong(cache, contents) == 50
        more = [name(1000 + 10 * k + i) for i in range(10)]
        cache.store(RECIPE, more, rows_of(more))
        sys.exit(0)
    children.append(pid)
assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
more = [name(1000 + i) for i in range(30)]
assert check_never_wrong(cache, more) == 30
cache.store(RECIPE, [name(5000)], rows_of([name(5000)]))
assert check_never_wrong(cache, [*contents, *more, name(5000)]) == 81
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_children_and_their_parent_go_on_writing(cache) -> None:
    subprocess.run([sys.executable, "-c", TOOLS + FORKER, str(cache.directory)], check=True, timeout=60)
    assert cache.info().n_rows == 81


def test_ctrl_c_in_a_batch_keeps_none_of_it_and_the_cache_works_on(cache, monkeypatch) -> None:
    contents = fill(cache, 50)
    more = [name(100 + i) for i in range(10)]
    real, calls = statements._checksum, iter(range(100))

    def interrupted(*args):
        if next(calls) == 5:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(statements, "_checksum", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache.store(RECIPE, more, rows_of(more))
    monkeypatch.undo()
    assert check_never_wrong(cache, contents + more) == 50
    cache.store(RECIPE, more, rows_of(more))
    assert check_never_wrong(cache, contents + more) == 60


def test_a_lock_held_too_long_costs_the_cache_not_the_run(cache, monkeypatch) -> None:
    monkeypatch.setattr(cache_file, "BUSY_SECONDS", 0.05)
    contents = fill(cache, 5)
    cache.close()
    db = sqlite3.connect(cache.path, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    with pytest.warns(CacheWarning, match="cannot be written.*locked"):
        cache.store(RECIPE, [name(9)], rows_of([name(9)]))
    cache.store(RECIPE, [name(9)], rows_of([name(9)]))
    assert check_never_wrong(cache, contents) == 5
    db.close()


# Damage


def damage(path: Path, offset: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def test_a_flipped_bit_in_a_row_costs_that_row_and_one_warning(cache) -> None:
    contents = fill(cache)
    cache.close()
    whole = cache.path.read_bytes()
    offset = whole.index(row_of(name(123)).tobytes())
    damage(cache.path, offset + 40, bytes([whole[offset + 40] ^ 4]))
    with pytest.warns(CacheWarning, match="1 rows .* fail their checksum") as caught:
        assert check_never_wrong(cache, contents) == 299
    assert len(caught) == 1
    cache.store(RECIPE, [name(123)], rows_of([name(123)]))
    assert check_never_wrong(cache, contents) == 300
    assert not cache._file.set_aside()


def test_verifying_finds_every_damaged_row_and_no_other(cache) -> None:
    contents = fill(cache)
    fill(cache, 20, recipe=OTHER)
    assert cache.verify() == 0
    cache.close()
    whole = cache.path.read_bytes()
    for i in (3, 123, 299):
        offset = whole.index(row_of(name(i)).tobytes())
        damage(cache.path, offset, bytes([whole[offset] ^ 1]))
    _execute(cache, f"DELETE FROM rows WHERE id = (SELECT row FROM keys WHERE content = x'{name(77).hex()}')")
    assert cache.verify() == 4
    found, _ = load(cache, contents)
    assert [i for i in range(300) if not found[i]] == [3, 77, 123, 299]
    assert check_never_wrong(cache, contents) == 296
    assert cache.verify() == 0


def test_verifying_a_file_of_damaged_structure_sets_it_aside(cache) -> None:
    fill(cache)
    cache.close()
    damage(cache.path, 3 * 16384, b"\xff" * 64)
    with pytest.warns(CacheWarning, match="is damaged.*renamed to"):
        assert cache.verify() == 0
    assert cache.info().n_rows == 0


def test_a_row_under_a_wrong_key_is_not_served(cache) -> None:
    contents = fill(cache, 20)
    _execute(cache, "UPDATE keys SET row = 21 - row")
    with pytest.warns(CacheWarning, match="20 rows"):
        assert check_never_wrong(cache, contents) == 0


@pytest.mark.parametrize("value", ["NULL", "'text'", "x'00'", "1e300", "-1"])
@pytest.mark.parametrize("column", ["row", "checksum", "used"])
def test_values_of_a_wrong_type_are_not_served(cache, column, value) -> None:
    contents = fill(cache, 20)
    _execute(cache, f"UPDATE OR IGNORE keys SET {column} = {value} WHERE row = 7")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheWarning)
        check_never_wrong(cache, contents)
        fill(cache, 20)
    assert check_never_wrong(cache, contents) == 20


def test_a_changed_recipe_is_found_out(cache) -> None:
    contents = fill(cache, 20)
    _execute(cache, "UPDATE recipes SET json = replace(json, 'bgr', 'rgb')")
    with pytest.warns(CacheWarning, match="is damaged.*a recipe fails its checksum"):
        assert check_never_wrong(cache, contents) == 0
    fill(cache, 20)
    assert check_never_wrong(cache, contents) == 20


def _execute(cache: EmbeddingCache, statement: str) -> None:
    cache.close()
    db = sqlite3.connect(cache.path)
    with db:
        db.execute(statement)
    db.close()


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """Make one file to damage copies of: some rows in the database, some in its log."""
    directory = tmp_path_factory.mktemp("sound")
    cache = EmbeddingCache(directory)
    fill(cache)
    cache._file.attempt("written", lambda db: db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
    more = [name(i) for i in range(300, 350)]
    cache.store(RECIPE, more, rows_of(more))
    copy = tmp_path_factory.mktemp("copy")
    for file in ("embeddings.sqlite", "embeddings.sqlite-wal"):
        shutil.copy(directory / file, copy)
    cache.close()
    return copy


def recover(directory: Path) -> list[str]:
    """Use a cache of 350 rows that was tampered with; return what it said."""
    contents = [name(i) for i in range(350)]
    cache = EmbeddingCache(directory, on_error="raise")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_never_wrong(cache, contents)
        fill(cache, 350)
        # What only the second writing met is mended by the third.
        if check_never_wrong(cache, contents) < 350:
            fill(cache, 350)
    said = [str(warning.message) for warning in caught if warning.category is CacheWarning]
    assert len(said) == len(caught)
    assert check_never_wrong(cache, contents) == 350
    cache.close()
    return said


@pytest.mark.parametrize("seed", range(8, 16))
def test_an_index_that_finds_other_keys_than_it_was_asked_for_is_found_out(sound, tmp_path, seed) -> None:
    rng = random.Random(seed)
    directory = shutil.copytree(sound, tmp_path / "cache")
    file = directory / "embeddings.sqlite"
    # The log has a newer copy of the page that matters: the one in which most keys stand.
    (directory / "embeddings.sqlite-wal").unlink()
    content = file.read_bytes()
    starts = range(0, len(content), 16384)
    page = max(
        starts, key=lambda start: sum(content.count(name(i), start, start + 16384) for i in range(100, 300))
    )
    for _ in range(10):
        damage(file, page + rng.randrange(16384), rng.randbytes(1))
    recover(directory)


@pytest.mark.parametrize("seed", range(40))
def test_bytes_flipped_anywhere_never_make_a_wrong_row(sound, tmp_path, seed) -> None:
    rng = random.Random(seed)
    directory = shutil.copytree(sound, tmp_path / "cache")
    file = directory / rng.choice(["embeddings.sqlite", "embeddings.sqlite", "embeddings.sqlite-wal"])
    size = file.stat().st_size
    for _ in range(rng.choice([1, 10, 200])):
        damage(file, rng.randrange(size), bytes([rng.randrange(256)]))
    recover(directory)


@pytest.mark.parametrize(
    "offset", [*range(0, 112, 3), 16384, 16384 + 3, 2 * 16384, 3 * 16384 + 5, 4 * 16384 + 1]
)
def test_a_flipped_byte_in_a_header_never_makes_a_wrong_row(sound, tmp_path, offset) -> None:
    directory = shutil.copytree(sound, tmp_path / "cache")
    file = directory / "embeddings.sqlite"
    damage(file, offset, bytes([file.read_bytes()[offset] ^ 0x41]))
    recover(directory)


@pytest.mark.parametrize("part", [0.0, 0.001, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999])
@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_a_truncated_file_never_makes_a_wrong_row(sound, tmp_path, part, suffix) -> None:
    directory = shutil.copytree(sound, tmp_path / "cache")
    file = directory / f"embeddings.sqlite{suffix}"
    os.truncate(file, int(file.stat().st_size * part))
    recover(directory)


def test_a_file_that_is_no_database_is_set_aside_and_said_aloud(cache) -> None:
    cache.directory.mkdir()
    cache.path.write_bytes(b"<html>" * 1000)
    with pytest.warns(
        CacheWarning, match="is damaged .*file is not a database.* renamed to embeddings"
    ) as caught:
        contents = fill(cache, 20)
    assert len(caught) == 1
    assert check_never_wrong(cache, contents) == 20
    (aside,) = cache._file.set_aside()
    assert aside.name.startswith("embeddings.sqlite.damaged-2")
    assert aside.read_bytes() == b"<html>" * 1000
    cache.clear()
    assert not aside.exists()


def test_a_damaged_log_goes_aside_with_its_database(sound, tmp_path) -> None:
    directory = shutil.copytree(sound, tmp_path / "cache")
    damage(directory / "embeddings.sqlite", 0, b"nothing of the kind")
    (said,) = recover(directory)
    assert "is damaged" in said
    asides = sorted(path.name.split("-", 2)[-1] for path in directory.glob("*.damaged-*-wal"))
    assert len(asides) == 1


def test_only_one_of_two_sets_a_damaged_file_aside(cache) -> None:
    contents = fill(cache, 20)
    other = EmbeddingCache(cache.directory)
    assert check_never_wrong(other, contents) == 20
    # Damaged while both have it open, and seen by both before either acts.
    problem = sqlite3.DatabaseError("malformed")
    with pytest.warns(CacheWarning, match="malformed"):
        assert cache._file._set_aside(problem)
    fill(cache, 20)
    assert other._file._set_aside(problem)
    assert check_never_wrong(other, contents) == 20
    assert len(list(cache.directory.glob("*.damaged-*[0-9]"))) == 1
    other.close()


def test_a_file_deleted_under_an_open_cache_is_begun_anew(cache) -> None:
    contents = fill(cache, 20)
    shutil.rmtree(cache.directory)
    assert check_never_wrong(cache, contents) == 0
    fill(cache, 20)
    assert check_never_wrong(EmbeddingCache(cache.directory), contents) == 20


# Disks


def test_a_directory_that_cannot_be_made_costs_one_warning(tmp_path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = EmbeddingCache(tmp_path / "file" / "cache")
    with pytest.warns(CacheWarning, match=r"cannot be written.*cache=None.*continues without it") as caught:
        contents = fill(cache, 200)
    assert len(caught) == 1
    assert check_never_wrong(cache, contents) == 0
    with pytest.raises(CacheError, match="cannot be written"):
        fill(EmbeddingCache(tmp_path / "file", on_error="raise"))


def test_a_full_disk_keeps_whole_batches_and_costs_one_warning(cache) -> None:
    contents = fill(cache, 50, 512)
    _fill_disk(cache)
    with pytest.warns(CacheWarning, match=r"cannot be written \(database or disk is full\)") as caught:
        contents = fill(cache, 1000, 512)
    assert len(caught) == 1
    kept = check_never_wrong(cache, contents, 512)
    assert kept >= 50
    assert kept % 50 == 0
    assert kept == cache.info().n_rows < 1000


def test_a_full_disk_stops_the_run_where_asked_to(cache) -> None:
    cache = EmbeddingCache(cache.directory, on_error="raise")
    contents = fill(cache, 50, 512)
    _fill_disk(cache)
    with pytest.raises(CacheError, match="disk is full"):
        fill(cache, 1000, 512)
    assert check_never_wrong(cache, contents, 512) == 50


FULL_DISK = """
import resource, sqlite3, warnings
cache = EmbeddingCache(sys.argv[1])
contents = fill(cache, 50, 512)
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    more = fill(cache, 1000, 512)
assert [str(warning.message)[:9] for warning in caught] == ["The cache"], caught
kept = check_never_wrong(cache, more, 512)
assert 50 <= kept < 1000 and kept % 50 == 0, kept
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_FSIZE")
def test_a_file_that_the_system_lets_grow_no_more_keeps_whole_batches(cache) -> None:
    subprocess.run([sys.executable, "-c", TOOLS + FULL_DISK, str(cache.directory)], check=True, timeout=60)
    contents = [name(i) for i in range(1000)]
    kept = check_never_wrong(cache, contents, 512)
    assert kept >= 50
    assert kept % 50 == 0
    fill(cache, 1000, 512)
    assert check_never_wrong(cache, contents, 512) == 1000
    assert cache.verify() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="tmpfs")
def test_a_disk_that_is_really_full_keeps_whole_batches(tmp_path) -> None:
    command = ["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", str(tmp_path)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        cache = EmbeddingCache(tmp_path)
        with pytest.warns(CacheWarning, match="cannot be written.*disk") as caught:
            contents = fill(cache, 1000, 512)
        assert len(caught) == 1
        kept = check_never_wrong(cache, contents, 512)
        assert 0 < kept < 1000
        assert kept % 50 == 0
        cache.close()
        with pytest.raises(CacheError, match="disk"):
            fill(EmbeddingCache(tmp_path, on_error="raise"), 1000, 512)
        again = EmbeddingCache(tmp_path)
        assert check_never_wrong(again, contents, 512) >= kept
        assert again.verify() == 0
        again.close()
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def _fill_disk(cache: EmbeddingCache) -> None:
    cache._file.attempt("read", lambda db: db.execute("PRAGMA max_page_count=40").fetchall())


@pytest.fixture
def public_cache():
    """Make a cache where a user without root's powers may look."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        cache = EmbeddingCache(Path(folder) / "cache")
        yield cache
        cache.close()


def test_a_directory_that_may_not_be_written_serves_its_rows_and_takes_none(public_cache) -> None:
    cache = public_cache
    contents = fill(cache, 20)
    cache.close()
    cache.path.chmod(0o444)
    cache.directory.chmod(0o555)
    try:
        with not_root():
            assert check_never_wrong(cache, contents) == 20
            with pytest.warns(
                CacheWarning, match=r"cannot be written.*cache=None.*continues without it"
            ) as caught:
                assert [cache.store(RECIPE, [name(i)], rows_of([name(i)])) for i in (98, 99)] == [False] * 2
            assert len(caught) == 1
            assert check_never_wrong(cache, contents) == 20
            with pytest.raises(CacheError, match="cannot be written"):
                fill(EmbeddingCache(cache.directory, on_error="raise"), 30)
            with pytest.raises(CacheError, match="cannot be pruned"):
                cache.prune(0)
    finally:
        cache.close()
        cache.directory.chmod(0o755)
    assert os.listdir(cache.directory) == ["embeddings.sqlite"]


def test_a_new_cache_in_a_directory_that_may_not_be_written_costs_one_warning(public_cache) -> None:
    cache = public_cache
    cache.directory.mkdir()
    cache.directory.chmod(0o555)
    try:
        with not_root(), pytest.warns(CacheWarning, match="cannot be written") as caught:
            contents = fill(cache, 100)
        assert len(caught) == 1
        assert check_never_wrong(cache, contents) == 0
    finally:
        cache.directory.chmod(0o755)
    assert os.listdir(cache.directory) == []


def test_a_read_only_cache_is_read_and_not_written(cache, monkeypatch) -> None:
    contents = fill(cache, 20)
    cache.close()
    # Root may write anywhere: what a read-only directory forbids is made impossible by hand.
    Path(f"{cache.path}-shm").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert check_never_wrong(cache, contents) == 20
    assert cache.info().n_rows == 20
    with pytest.warns(CacheWarning, match="cannot be written.*readonly"):
        cache.store(RECIPE, [name(99)], rows_of([name(99)]))
    assert check_never_wrong(cache, contents) == 20


# Size


def test_the_rows_used_longest_ago_go_first(cache, monkeypatch) -> None:
    contents = fill(cache, 300, 512)
    monkeypatch.setattr(statements, "_today", lambda: 30_000)
    assert load(cache, contents[:60], 512)[0].all()
    more = [name(i) for i in range(300, 360)]
    cache.store(OTHER, more, rows_of(more, 512))
    cache.close()
    limit = cache.info().n_bytes // 2
    dropped = cache.prune(limit)
    info = cache.info()
    assert info.n_bytes <= limit
    assert info.n_rows == 360 - dropped
    assert 0.8 * limit < info.n_bytes
    assert load(cache, more, 512, OTHER)[0].all()
    found = load(cache, contents, 512)[0]
    assert found[:60].all()
    assert found[60:].tolist() == sorted(found[60:])


def test_pruning_to_nothing_leaves_no_rows_and_no_recipes(cache) -> None:
    contents = fill(cache, 100)
    fill(cache, 100, recipe=OTHER)
    assert cache.prune(10**9) == 0
    assert cache.prune(0) == 200
    assert cache.info().recipes == ()
    assert check_never_wrong(cache, contents) == 0
    fill(cache, 100)
    assert check_never_wrong(cache, contents) == 100
    with pytest.raises(ValueError, match="max_bytes=-1"):
        cache.prune(-1)


def test_clearing_frees_the_disk_while_another_has_the_file_open(cache) -> None:
    contents = fill(cache, 2000, 512)
    other = EmbeddingCache(cache.directory)
    assert check_never_wrong(other, contents, 512) == 2000
    cache.clear()
    assert sum(file.stat().st_size for file in cache.directory.iterdir()) < 300_000
    assert check_never_wrong(other, contents, 512) == 0
    fill(other, 50, 512)
    assert check_never_wrong(cache, contents, 512) == 50
    other.close()


def test_the_day_of_use_is_stamped_once_and_reading_writes_nothing_more(cache, monkeypatch) -> None:
    contents = fill(cache, 50)
    watcher = sqlite3.connect(cache.path)
    version = watcher.execute("PRAGMA data_version").fetchone()
    load(cache, contents)
    assert watcher.execute("PRAGMA data_version").fetchone() == version
    monkeypatch.setattr(statements, "_today", lambda: 30_000)
    load(cache, contents[:10])
    stamped = watcher.execute("PRAGMA data_version").fetchone()
    assert stamped != version
    assert watcher.execute("SELECT count(*) FROM keys WHERE used = 30000").fetchone() == (10,)
    load(cache, contents[:10])
    assert watcher.execute("PRAGMA data_version").fetchone() == stamped
    watcher.close()


def test_reading_does_not_wait_for_a_writer_to_stamp_the_day(cache, monkeypatch) -> None:
    contents = fill(cache, 50)
    monkeypatch.setattr(statements, "_today", lambda: 30_000)
    db = sqlite3.connect(cache.path, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    assert check_never_wrong(cache, contents) == 50
    db.close()


def test_info_tells_what_each_recipe_is_and_holds(cache, monkeypatch) -> None:
    monkeypatch.setattr(statements, "_today", lambda: 20_000)
    fill(cache, 100)
    fill(cache, 20, 64, recipe=OTHER)
    info = cache.info()
    assert info.path == cache.path
    assert info.n_rows == 120
    assert info.n_bytes == sum(
        file.stat().st_size for file in cache.directory.iterdir() if file.suffix != ".sqlite-shm"
    )
    first, second = info.recipes
    assert (first.recipe, first.shape, first.n_rows, first.n_bytes) == (RECIPE, (32,), 100, 100 * 32 * 4)
    assert (second.recipe, second.shape, second.n_rows, second.n_bytes) == (OTHER, (64,), 20, 20 * 64 * 4)
    assert first.last_used.isoformat() == "2024-10-04"


def test_info_on_a_file_that_cannot_be_opened_raises(tmp_path) -> None:
    (tmp_path / "embeddings.sqlite").mkdir()
    with pytest.raises(CacheError, match=r"cannot be counted.*unable to open"):
        EmbeddingCache(tmp_path).info()


# Network file systems


def test_a_network_directory_gets_a_rollback_journal_and_one_warning(cache, monkeypatch) -> None:
    fill(cache, 10)  # made as WAL by the machine that has the disk
    cache.close()
    monkeypatch.setattr(cache_file, "network_file_system", lambda directory: "nfs4")
    with pytest.warns(CacheWarning, match=r"network file system \(nfs4\).*a local directory"):
        contents = fill(cache, 20)
    cache.close()
    assert check_never_wrong(cache, contents) == 20
    assert _journal_mode(cache) == "delete"
    monkeypatch.undo()
    fill(EmbeddingCache(cache.directory), 30)
    assert _journal_mode(cache) == "delete"


def _journal_mode(cache: EmbeddingCache) -> str:
    db = sqlite3.connect(cache.path)
    (mode,) = db.execute("PRAGMA journal_mode").fetchone()
    db.close()
    return mode


def test_the_mount_table_tells_network_from_local(tmp_path) -> None:
    table = tmp_path / "mounts"
    table.write_text(
        "/dev/sda1 / ext4 rw 0 0\n"
        "server:/home /home nfs4 rw 0 0\n"
        "/dev/sdb1 /home/scratch xfs rw 0 0\n"
        "//server/share /mnt/my\\040share cifs rw 0 0\n"
    )
    kinds = {
        path: cache_file.network_file_system(Path(path), table)
        for path in ("/srv/x", "/home/me/.cache", "/home/scratch/x", "/homes", "/mnt/my share/x")
    }
    assert kinds == {
        "/srv/x": None,
        "/home/me/.cache": "nfs4",
        "/home/scratch/x": None,
        "/homes": None,
        "/mnt/my share/x": "cifs",
    }
    assert cache_file.network_file_system(Path("/srv"), tmp_path / "absent") is None
