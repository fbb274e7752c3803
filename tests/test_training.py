import random
from dataclasses import replace

import numpy as np
import pytest

from agegender._fitting import reading
from agegender.heads import ConvHead, DenseHead
from agegender.training import SCHEDULES, Settings, TrainingData, train

SETTINGS = Settings(
    age_loss="label_distribution",
    age_sigma=2.0,
    expected_age_weight=0.0,
    gender_weight=1.0,
    epochs=3,
    batch_size=32,
    learning_rate=0.01,
    schedule=None,
    validation_fraction=0.25,
    patience=10,
    rounds=1,
    balance=None,
    standardize=True,
    max_age=80,
)


def data(n=160, shape=(6,), n_views=1, seed=0):
    rng = np.random.default_rng(seed)
    ages, genders = rng.integers(0, 81, n), rng.integers(0, 2, n)
    rows = rng.normal(size=(n * n_views, *shape)).astype(np.float32)
    rows[..., 0] += np.repeat(ages / 10, n_views).reshape(-1, *[1] * (len(shape) - 1))
    return TrainingData(
        rows,
        n_views,
        ages.astype(np.float32),
        genders.astype(np.int32),
        np.ones(n, np.float32),
        np.arange(n),
        np.arange(n),
    )


def run(head, rows, seed=0, **changes):
    records = []
    model = train(head, rows, replace(SETTINGS, **changes), seed, records.append)
    return model.get_weights(), records


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("head", "shape"),
    [(DenseHead((8,), dropout=0.3, batch_norm=True), (6,)), (ConvHead((4,), spatial_dropout=0.3), (4, 4, 3))],
)
def test_the_same_seed_gives_the_same_weights_bit_by_bit(head, shape):
    first, records = run(head, data(shape=shape), seed=1)
    random.seed(99)
    again, records_again = run(head, data(shape=shape), seed=1)
    other, _ = run(head, data(shape=shape), seed=2)
    assert same(first, again)
    assert [r["loss"] for r in records] == [r["loss"] for r in records_again]
    assert not same(first, other)


def test_training_leaves_the_global_generators_alone():
    import keras  # noqa: F401  (the import itself draws from them)

    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    expected = random.Random(5).random(), np.random.RandomState(5).random()
    run(DenseHead((4,), dropout=0.1), data(), epochs=1)
    assert (random.random(), np.random.random()) == expected  # noqa: NPY002


def test_the_loss_falls_and_each_epoch_is_recorded():
    _, records = run(DenseHead(), data(), epochs=12)
    assert [record["epoch"] for record in records] == list(range(1, 13))
    assert records[-1]["loss"] < records[0]["loss"] - 0.5
    assert records[-1]["val_age_mae"] < records[0]["val_age_mae"]
    assert 0 <= records[0]["val_gender_accuracy"] <= 1


def test_training_stops_when_validation_has_not_improved_for_patience_epochs():
    rows = data(40)
    _, records = run(DenseHead((64,)), rows, epochs=400, patience=3, learning_rate=0.03)
    errors = [record["val_age_mae"] for record in records]
    assert len(errors) < 400
    assert int(np.argmin(errors)) == len(errors) - 4


def test_the_best_weights_are_restored():
    rows, seen = data(40), []

    def head(*shape):
        seen.append(DenseHead((64,))(*shape))
        return seen[-1]

    snapshots, errors = [], []

    def record(epoch):
        errors.append(epoch["val_age_mae"])
        snapshots.append(seen[-1].get_weights())

    settings = replace(SETTINGS, epochs=400, patience=3, learning_rate=0.03)
    train(head, rows, settings, 0, record)
    assert same(seen[-1].get_weights(), snapshots[int(np.argmin(errors))])


def test_without_validation_every_epoch_is_trained_and_the_last_weights_stay():
    weights, records = run(DenseHead(), data(), validation_fraction=0.0, patience=1)
    assert len(records) == 3
    assert np.isnan(records[0]["val_age_mae"])
    assert not same(weights, run(DenseHead(), data(), validation_fraction=0.0, epochs=2)[0])


def test_no_epochs_leave_the_head_as_it_was_built():
    weights, records = run(DenseHead(), data(), epochs=0)
    assert records == []
    assert np.all(weights[-1] == 0)


def test_every_round_goes_on_from_the_last_weights_on_a_new_split():
    _, records = run(DenseHead(), data(), rounds=2, epochs=8)
    assert [record["round"] for record in records] == [1] * 8 + [2] * 8
    assert records[8]["loss"] < records[0]["loss"] - 0.3


def test_averaging_keeps_the_mean_of_the_weights_of_all_steps():
    rows, seen, snapshots = data(40), [], []

    def head(*shape):
        seen.append(DenseHead()(*shape))
        snapshots.append(seen[-1].get_weights())
        return seen[-1]

    settings = replace(SETTINGS, epochs=30, batch_size=40, validation_fraction=0.0, averaging=0.8)
    model = train(head, rows, settings, 0, lambda record: snapshots.append(seen[-1].get_weights()))
    expected = [weights.astype(np.float64) for weights in snapshots[0]]
    for step, weights in enumerate(snapshots[1:], start=1):  # a step per epoch
        share = 1 - min(0.8, (1 + step) / (10 + step))
        expected = [old + share * (new - old) for old, new in zip(expected, weights, strict=True)]
    for found, wanted in zip(model.layers[-1].get_weights(), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert not same(seen[-1].get_weights(), snapshots[-1])
    without, _ = run(DenseHead(), rows, epochs=30, batch_size=40, validation_fraction=0.0)
    assert same(without[-4:], snapshots[-1])


def test_the_average_is_what_is_validated_and_kept():
    rows = data(n=200)
    weights, records = run(
        DenseHead((16,), batch_norm=True), rows, epochs=20, averaging=0.9, learning_rate=0.05, rounds=2
    )
    plain, plain_records = run(
        DenseHead((16,), batch_norm=True), rows, epochs=20, learning_rate=0.05, rounds=2
    )
    assert records[0]["loss"] == plain_records[0]["loss"]
    assert records[0]["val_age_mae"] != plain_records[0]["val_age_mae"]
    assert not same(weights, plain)
    errors = [record["val_age_mae"] for record in records if record["round"] == 2]
    assert np.std(np.diff(errors)) < np.std(
        np.diff([record["val_age_mae"] for record in plain_records if record["round"] == 2])
    )


def test_mixup_trains_on_neighbours_and_on_both_of_their_labels():
    rows = data(60)
    rows.rows[:] = np.random.default_rng(5).normal(
        size=rows.rows.shape
    )  # labels that can only be learnt by heart
    settings = {"epochs": 60, "validation_fraction": 0.0, "age_sigma": 0.5, "learning_rate": 0.02}
    by_heart, records = run(DenseHead((64,)), rows, **settings)
    mixed, mixed_records = run(DenseHead((64,)), rows, mixup=0.5, **settings)
    assert mixed_records[-1]["loss"] > records[-1]["loss"] + 0.2
    assert mixed_records[-1]["loss"] < mixed_records[0]["loss"]
    assert same(mixed, run(DenseHead((64,)), rows, mixup=0.5, **settings)[0])
    # With shares of nearly 0 or 1, a step is made on rows as they are.
    _, nearly = run(DenseHead((64,)), rows, mixup=1e-4, **settings)
    assert nearly[-1]["loss"] < mixed_records[-1]["loss"] - 0.1
    assert not same(by_heart, mixed)


def test_mixup_mixes_bytes_views_and_weights():
    rows = data(shape=(4, 4, 3), n_views=2)
    pixels = replace(rows, rows=(rows.rows * 20 + 100).clip(0, 255).astype(np.uint8))
    _, records = run(ConvHead((4,)), pixels, mixup=0.4, standardize=False, learning_rate=0.001)
    assert np.isfinite([record["loss"] for record in records]).all()
    pixels.weights[:] = 1e-6
    pixels.weights[0] = 1
    _, light = run(ConvHead((4,)), pixels, mixup=0.4, standardize=False, epochs=1, validation_fraction=0.0)
    assert light[0]["loss"] < 0.1 * records[0]["loss"]


def test_rows_read_in_chunks_train_the_same_head_as_rows_held_in_memory(monkeypatch, tmp_path):
    rows = data(shape=(4, 4, 3))
    np.save(tmp_path / "rows.npy", rows.rows)
    mapped = replace(rows, rows=np.load(tmp_path / "rows.npy", mmap_mode="r"))
    expected, _ = run(ConvHead(), rows, batch_size=20)
    monkeypatch.setattr(reading, "HELD_BYTES", 0)
    monkeypatch.setattr(reading, "CHUNK_BYTES", 40 * 4 * 48)
    found, _ = run(ConvHead(), mapped, batch_size=20)
    assert all(a == pytest.approx(b, abs=1e-5) for a, b in zip(found, expected, strict=True))


def test_half_precision_and_bytes_are_read_as_they_are():
    rows = data()
    expected, _ = run(DenseHead(), replace(rows, rows=rows.rows.astype(np.float16).astype(np.float32)))
    found, _ = run(DenseHead(), replace(rows, rows=rows.rows.astype(np.float16)))
    assert same(found, expected)
    run(DenseHead(), replace(rows, rows=(rows.rows * 10).clip(0, 255).astype(np.uint8)), epochs=1)


def test_each_step_sees_one_view_of_a_picture_and_validation_all():
    rows = data(n_views=2)
    rows.rows[1::2] = rows.rows[::2]
    assert same(run(DenseHead(), rows)[0], run(DenseHead(), rows)[0])
    _, records = run(DenseHead(), rows, epochs=6)
    assert records[-1]["loss"] < records[0]["loss"]
    assert np.isfinite(records[-1]["val_age_mae"])


def test_weights_say_how_much_a_picture_counts():
    rows = data(200)
    rows.ages[100:] = 80 - rows.ages[100:]
    rows.weights[100:] = 1e-6
    lonely = replace(rows, samples=np.arange(100))
    _, records = run(DenseHead(), rows, epochs=10, validation_fraction=0.0)
    _, expected = run(DenseHead(), lonely, epochs=10, validation_fraction=0.0, batch_size=16)
    assert 2 * records[-1]["loss"] == pytest.approx(expected[-1]["loss"], rel=0.1)


def test_a_penalty_of_the_head_is_part_of_what_is_minimised():
    kernel = run(DenseHead(), data(), epochs=10)[0][-2]
    decayed = run(DenseHead(weight_decay=1.0), data(), epochs=10)[0][-2]
    assert np.abs(decayed).sum() < 0.5 * np.abs(kernel).sum()


def test_training_that_diverges_says_so():
    with pytest.raises(FloatingPointError, match=r"epoch 1 .*lower learning_rate"):
        run(DenseHead((8,)), data(), batch_size=16, learning_rate=1e38)


def test_standardising_is_measured_on_the_training_part_and_is_the_first_layer():
    rows = data()
    weights = run(DenseHead(), rows, validation_fraction=0.0, epochs=0)[0]
    assert weights[0] == pytest.approx(rows.rows.mean(axis=0), abs=1e-4)
    assert weights[1] == pytest.approx(rows.rows.var(axis=0), rel=1e-3)


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        (None, [1, 1, 1, 1, 1, 1]),
        ("plateau", [1, 1, 1, 1, 1 / 3, 1 / 3]),
        ("cosine", [1, 0.933, 0.75, 0.5, 0.25, 0.067]),
    ],
)
def test_schedules_give_the_rate_of_the_next_epoch(schedule, rates):
    settings = replace(SETTINGS, learning_rate=1.0, epochs=6, patience=4)
    errors = [9.0, 8.0, 8.5, 8.2, 8.1, 8.05]
    found = [SCHEDULES[schedule](settings, errors[:epoch]) for epoch in range(6)]
    assert found == pytest.approx(rates, abs=1e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda k, i: "no model", "returned a str"),
        (lambda k, i: k.Model(i, k.layers.Dense(81, "softmax")(i)), "has one output"),
        (
            lambda k, i: k.Model(i, [k.layers.Dense(w, "softmax")(i) for w in (2, 81)]),
            r"age output has the shape \(2,\)",
        ),
        (lambda k, i: k.Model(i, [k.layers.Dense(w)(i) for w in (81, 2)]), "does not sum to 1"),
    ],
)
def test_a_callable_that_gives_no_fitting_model_is_told_what_is_wrong(make, message):
    import keras

    with pytest.raises(ValueError, match=message):
        run(lambda shape, n_ages, n_genders: make(keras, keras.Input(shape)), data())
