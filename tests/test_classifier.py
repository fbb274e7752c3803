import copy
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_validate

from agegender import AgeGenderClassifier, ConvHead, DenseHead
from agegender.calibration import Calibration, scale_genders
from agegender.exceptions import PictureWarning
from agegender.metrics import SCORERS, age_mae, expected_age, gender_accuracy


def faces(n=200, shape=(6,), seed=0):
    """Rows whose first feature tells the age and whose second the gender."""
    rng = np.random.default_rng(seed)
    ages, genders = rng.integers(10, 71, n), np.arange(n) % 2
    X = rng.normal(size=(n, *shape)).astype(np.float32)
    X[..., 0] += (ages.reshape(-1, *[1] * (len(shape) - 1)) - 40) / 5
    X[..., 1] += (genders.reshape(-1, *[1] * (len(shape) - 1)) - 0.5) * 6
    return X, np.column_stack([ages, genders])


def quick(head=None, **params):
    settings = {"epochs": 15, "learning_rate": 0.03, "batch_size": 32, "random_state": 0, "max_age": 80}
    return AgeGenderClassifier(head or DenseHead(), **(settings | params))


@pytest.fixture(scope="module")
def fitted():
    return quick(DenseHead((16,)), epochs=40).fit(*faces(400))


def test_it_learns_age_and_gender(fitted):
    X, y = faces(200, seed=1)
    predicted = fitted.predict(X)
    assert predicted.shape == (200, 2)
    assert predicted.dtype == np.float64
    assert age_mae(y, predicted) < 7
    assert gender_accuracy(y, predicted) > 0.97
    assert fitted.score(X, y) == -age_mae(y, predicted)


def test_the_age_is_the_mean_of_the_distribution_and_the_gender_the_likelier(fitted):
    X, _ = faces(20, seed=1)
    ages, genders = fitted.predict_proba(X)
    assert ages.shape == (20, 81)
    assert genders.shape == (20, 2)
    assert ages.sum(axis=1) == pytest.approx(np.ones(20), abs=1e-5)
    predicted = fitted.predict(X)
    assert predicted[:, 0].tolist() == expected_age(ages).tolist()
    assert predicted[:, 1].tolist() == genders.argmax(axis=1).tolist()
    assert fitted.classes_[0].tolist() == list(range(81))
    assert fitted.classes_[1].tolist() == [0, 1]


def test_predict_frame_gives_an_interval_and_the_probability_of_the_gender_shown(fitted):
    X, _ = faces(50, seed=1)
    frame = fitted.predict_frame(pd.DataFrame(X, index=[f"{i}.jpg" for i in range(50)]).to_numpy())
    assert list(frame) == ["age", "age_low", "age_high", "gender", "gender_proba"]
    assert (frame.age_low < frame.age).all()
    assert (frame.age < frame.age_high).all()
    assert frame.gender_proba.tolist() == fitted.predict_proba(X)[1].max(axis=1).astype(float).tolist()
    assert (frame.gender_proba >= 0.5).all()


def test_frames_and_lists_are_read_like_arrays():
    X, y = faces(80)
    named = pd.DataFrame(X, columns=list("abcdef"), index=range(5, 85))
    model = quick(epochs=2).fit(named, pd.DataFrame({"gender": y[:, 1], "age": y[:, 0]}))
    assert model.feature_names_in_.tolist() == list("abcdef")
    assert model.n_features_in_ == 6
    assert model.predict_frame(named).index.tolist() == list(range(5, 85))
    plain = quick(epochs=2).fit(X.tolist(), y.tolist())
    assert np.array_equal(plain.predict(X.tolist()), model.predict(named))
    with pytest.raises(ValueError, match="feature names"):
        model.predict(named[list("fedcba")])


def test_text_labels_come_back_as_text():
    X, y = faces(80)
    target = pd.DataFrame({"age": y[:, 0], "gender": np.where(y[:, 1] == 1, "woman", "man")})
    model = quick().fit(X, target)
    predicted = model.predict(X)
    assert predicted.dtype == object
    assert set(predicted[:, 1]) == {"man", "woman"}
    assert gender_accuracy(target, predicted) > 0.9
    X[3] = np.nan
    assert pd.isna(model.predict(X)[3]).all()
    assert pd.isna(model.predict_frame(X).gender[3])


@pytest.mark.parametrize("labels", [(1, 2), (False, True), (-1.0, 1.0), (0.5, 1.5)])
def test_numeric_labels_come_back_as_they_were(labels):
    X, y = faces(80)
    target = pd.DataFrame({"age": y[:, 0], "gender": np.asarray(labels)[y[:, 1]]})
    model = quick().fit(X, target)
    assert set(model.predict(X)[:, 1]) == set(map(float, labels))
    assert gender_accuracy(target, model.predict(X)) > 0.9


@pytest.mark.parametrize(
    ("break_", "message"),
    [
        (lambda y: y[:-1], "80 rows and y has 79"),
        (lambda y: y[:, 0], r"shape \(80,\)"),
        (lambda y: np.where([[True, False]] * 80, [130, 0], y), "outside 0…80 years, the first 130"),
        (
            lambda y: np.where(np.arange(160).reshape(80, 2) == 4, np.nan, y),
            "NaN or infinite, the first in row 2",
        ),
        (lambda y: np.column_stack([y[:, 0], np.arange(80) % 3]), "3 genders, 0.*keep rows of two"),
        (lambda y: y * [1, 0], "1 class of gender only, 0"),
        (lambda y: None, "y is None"),
    ],
)
def test_a_bad_target_is_refused_with_its_own_error(break_, message):
    X, y = faces(80)
    with pytest.raises(ValueError, match=message):
        quick().fit(X, break_(y))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"head": "dens"}, "Did you mean 'dense'"),
        ({"age_loss": "label_distrib"}, "Did you mean 'label_distribution'"),
        ({"schedule": "plato"}, "schedule='plato' is not one of"),
        ({"balance": "gender"}, "'age', 'age-drop', None"),
        ({"epochs": 1.5}, "epochs=1.5 should be an integer of at least 0"),
        ({"validation_fraction": 1}, "from 0 to 0.9"),
        ({"ensemble": 0}, "ensemble=0 should be"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
    ],
)
def test_a_bad_parameter_is_named_at_fit(params, message):
    with pytest.raises(ValueError, match=message):
        quick().set_params(**params).fit(*faces(80))


@pytest.mark.parametrize(
    "weights", [[1, 2], -np.ones(80), np.full(80, np.nan), np.ones((80, 2)), np.zeros(80)]
)
def test_bad_weights_are_refused(weights):
    with pytest.raises(ValueError, match="weight"):
        quick().fit(*faces(80), sample_weight=weights)


def test_ages_between_whole_years_are_fine():
    X, y = faces(80)
    for loss in ("label_distribution", "categorical_crossentropy"):
        quick(age_loss=loss, epochs=1).fit(X, y + np.array([0.49, 0]))


def test_rows_of_nan_are_left_out_of_the_fit_and_passed_on_by_predict():
    X, y = faces(100)
    X[[4, 40]] = np.nan
    with pytest.warns(PictureWarning, match="2 of 100 rows") as caught:
        model = quick().fit(X, y)
    assert [warning.category for warning in caught].count(PictureWarning) == 1
    predicted = model.predict(X)
    assert np.flatnonzero(np.isnan(predicted).any(axis=1)).tolist() == [4, 40]
    assert np.isnan(model.predict_proba(X)[0][4]).all()
    assert np.isnan(model.predict(X[[4]])).all()
    present = np.delete(np.arange(100), [4, 40])
    assert np.array_equal(predicted[present], model.predict(X[present]))
    X[4] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        model.predict(X)


def test_rows_of_another_layer_are_refused(fitted):
    with pytest.raises(ValueError, match="7 features, but AgeGenderClassifier is expecting 6"):
        fitted.predict(np.zeros((2, 7)))
    with pytest.raises(ValueError, match=r"rows of shape \(3, 3, 6\).*extract the same layer"):
        fitted.predict(np.zeros((2, 3, 3, 6)))


def test_the_batch_a_row_stands_in_does_not_change_its_numbers(fitted):
    X, _ = faces(300, seed=2)
    whole = fitted.predict_proba(X)
    for size in (1, 7, 64):
        parts = [fitted.predict_proba(X[i : i + size]) for i in range(0, 300, size)]
        for output in (0, 1):
            assert np.array_equal(np.concatenate([part[output] for part in parts]), whole[output])


def test_maps_are_read_from_a_memory_map_in_half_precision(tmp_path):
    X, y = faces(120, (5, 5, 3))
    np.save(tmp_path / "maps.npy", X.astype(np.float16))
    mapped = np.load(tmp_path / "maps.npy", mmap_mode="r")
    model = quick(ConvHead((4,)), epochs=10).fit(mapped, y)
    assert np.array_equal(model.predict(mapped), model.predict(np.array(mapped)))
    assert age_mae(y, model.predict(mapped)) < 12
    assert not hasattr(model, "n_features_in_")


@pytest.mark.parametrize(("head", "shape"), [(DenseHead(), (6,)), (ConvHead((2,)), (3, 3, 2))])
def test_of_several_views_the_prediction_is_the_mean(head, shape):
    first, y = faces(80, shape, seed=0)
    second, _ = faces(80, shape, seed=1)
    views = np.stack([first, second], axis=1)
    model = quick(head, epochs=3).fit(views, y)
    both = model.predict_proba(views)[0]
    alone = [model.predict_proba(view)[0] for view in (first, second)]
    assert both == pytest.approx((alone[0] + alone[1]) / 2, abs=1e-6)


def test_the_same_random_state_gives_the_same_numbers_bit_by_bit():
    X, y = faces(100)
    first, again = (quick(DenseHead((8,), dropout=0.2), ensemble=2, epochs=3).fit(X, y) for _ in range(2))
    assert np.array_equal(first.predict_proba(X)[0], again.predict_proba(X)[0])
    other = quick(DenseHead((8,), dropout=0.2), ensemble=2, epochs=3, random_state=1).fit(X, y)
    assert not np.array_equal(first.predict(X), other.predict(X))


def test_an_ensemble_averages_its_members_probabilities():
    X, y = faces(100)
    model = quick(ensemble=2, epochs=3).fit(X, y)
    members = [layer for layer in model.keras_model_.layers if hasattr(layer, "layers")]
    outputs = [np.asarray(member(X)[0]) for member in members]
    assert len(members) == 2
    assert model.predict_proba(X)[0] == pytest.approx((outputs[0] + outputs[1]) / 2, abs=1e-6)
    assert {record["member"] for record in model.history_} == {1, 2}


def test_history_has_a_record_for_each_epoch():
    model = quick(rounds=2, epochs=3).fit(*faces(80))
    assert model.n_epochs_ == len(model.history_) == 6
    assert set(model.history_[0]) == {
        *(
            "member",
            "round",
            "epoch",
            "loss",
            "val_age_mae",
            "val_gender_accuracy",
            "learning_rate",
            "seconds",
        )
    }
    assert [record["round"] for record in model.history_] == [1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("balance", ["age", "age-drop"])
@pytest.mark.parametrize("loss", ["mean_variance", "ordinal"])
def test_balance_and_losses_are_choices(balance, loss):
    model = quick(balance=balance, age_loss=loss, expected_age_weight=0.1).fit(*faces(150))
    assert age_mae(faces(100, seed=1)[1], model.predict(faces(100, seed=1)[0])) < 15


def test_equal_rows_and_groups_stay_on_one_side_of_the_inner_split(monkeypatch):
    from agegender import training

    sides = []
    original = training.split

    def watch(ages, genders, groups, fraction, rng):
        sides.append((groups, original(ages, genders, groups, fraction, rng)))
        return sides[-1][1]

    monkeypatch.setattr(training, "split", watch)
    X, y = faces(120)
    X[60:90] = X[:30]
    people = np.arange(120)
    people[[0, 100]] = 999
    quick(validation_fraction=0.3, epochs=1).fit(X, y, groups=people)
    codes, (train_rows, validation_rows) = sides[0]
    assert np.array_equal(codes[60:90], codes[:30])
    assert codes[0] == codes[60] == codes[100]
    assert not set(codes[train_rows]) & set(codes[validation_rows])


def test_clone_and_get_params_leave_the_name_of_a_head_a_name():
    model = AgeGenderClassifier("dense")
    params = model.get_params()
    assert params["head"] == "dense"
    assert "head__units" in params
    assert model.head == "dense"
    assert clone(model).head == "dense"


def test_setting_a_parameter_of_a_head_given_by_name_makes_a_head_of_ones_own():
    first, second = AgeGenderClassifier(), AgeGenderClassifier()
    first.set_params(head__units=(7,))
    assert first.head.units == (7,)
    assert second.head == "dense"
    third = AgeGenderClassifier("conv").set_params(head="dense", head__units=(3,))
    assert isinstance(third.head, DenseHead)
    with pytest.raises(ValueError, match="Invalid parameter 'unit'"):
        AgeGenderClassifier().set_params(head__unit=3)


@pytest.mark.slow
def test_grid_search_reaches_heads_and_their_parameters():
    X, y = faces(90)
    grid = [{"head": [DenseHead(), "dense"]}, {"head__units": [(4,), (8,)]}]
    model = AgeGenderClassifier(epochs=1, random_state=0)
    search = GridSearchCV(model, grid, cv=2, scoring=SCORERS, refit="neg_age_mae", error_score="raise")
    search.fit(X, y)
    assert len(search.cv_results_["params"]) == 4
    assert (search.cv_results_["mean_test_neg_age_mae"] < 0).all()
    assert model.head == "dense"


def test_groups_and_weights_are_routed():
    from sklearn import config_context

    X, y = faces(60)
    with config_context(enable_metadata_routing=True):
        model = (
            quick(epochs=1)
            .set_fit_request(groups=True, sample_weight=True)
            .set_score_request(sample_weight=False)
        )
        scores = cross_validate(
            model,
            X,
            y,
            cv=2,
            params={"groups": np.arange(60), "sample_weight": np.ones(60)},
            error_score="raise",
        )
    assert len(scores["test_score"]) == 2


def test_an_interrupted_fit_leaves_a_fitted_estimator_as_it_was(monkeypatch):
    from agegender import training

    X, y = faces(80)
    model = quick(epochs=2).fit(X, y)
    before, expected = vars(model).copy(), model.predict(X)

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(training.Trainer, "_validate", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X[:, :4], y)
    assert vars(model) == before
    assert np.array_equal(model.predict(X), expected)
    fresh = quick()
    with pytest.raises(KeyboardInterrupt):
        fresh.fit(X, y)
    with pytest.raises(NotFittedError):
        fresh.predict(X)
    assert not hasattr(fresh, "keras_model_")


def test_onnx_runtime_and_keras_agree(fitted):
    X, _ = faces(50, seed=3)
    age, gender = fitted.keras_model_.predict(X, verbose=0)
    gender = scale_genders(gender, fitted.calibration_.temperature)
    assert fitted.predict_proba(X)[0] == pytest.approx(age, abs=1e-5)
    assert fitted.predict_proba(X)[1] == pytest.approx(gender, abs=1e-5)


def test_a_head_that_onnx_lacks_predicts_with_keras_and_says_so():
    X, y = faces(80)
    with pytest.warns(UserWarning, match="cannot be exported to ONNX.*predicts with Keras"):
        model = quick(DenseHead((4,), activation="gelu"), epochs=2).fit(X, y)
    assert model.predict(X) == pytest.approx(pickle.loads(pickle.dumps(model)).predict(X))


def test_a_pickled_model_predicts_the_same_where_tensorflow_is_never_imported(fitted, tmp_path):
    X, _ = faces(50, seed=3)
    joblib.dump((fitted, X), tmp_path / "model.joblib")
    np.save(tmp_path / "expected.npy", fitted.predict(X))
    code = (
        "import joblib, numpy, sys; model, X = joblib.load('model.joblib');"
        "assert numpy.array_equal(model.predict(X), numpy.load('expected.npy')); model.predict_frame(X);"
        "assert not {'tensorflow', 'keras', 'matplotlib', 'onnx'} & set(sys.modules), 'heavy import'"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_a_fitted_model_holds_nothing_but_plain_state(fitted):
    plain = (bytes, int, float, str, tuple, list, dict, np.ndarray, DenseHead, Calibration, type(None))
    assert all(isinstance(value, plain) for value in vars(fitted).values())
    assert np.array_equal(copy.deepcopy(fitted).predict(faces(5)[0]), fitted.predict(faces(5)[0]))


def test_eight_threads_predict_the_same(fitted):
    X, _ = faces(64, seed=3)
    expected = fitted.predict(X)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: pickle.loads(pickle.dumps(fitted)).predict(X), range(16)))
    assert all(np.array_equal(result, expected) for result in results)


def test_any_callable_can_be_a_head():
    def head(input_shape, n_ages, n_genders):
        import keras

        inputs = keras.Input(input_shape)
        hidden = keras.layers.Dense(5, activation="tanh")(inputs)
        return keras.Model(
            inputs, [keras.layers.Dense(n, activation="softmax")(hidden) for n in (n_ages, n_genders)]
        )

    X, y = faces(80)
    assert quick(head, epochs=2).fit(X, y).predict(X).shape == (80, 2)


def test_a_few_rows_are_enough_to_fit():
    X, y = faces(2)
    assert quick(epochs=1).fit(X, y).predict(X).shape == (2, 2)


def test_progress_is_shown_only_when_asked_for(capsys):
    X, y = faces(60)
    quick(epochs=2).fit(X, y)
    assert capsys.readouterr().err == ""
    quick(epochs=2, verbose=1).fit(X, y)
    assert "age MAE" in capsys.readouterr().err


def test_many_rows_are_read_off_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    from agegender._fitting import fitted_head

    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 5)).astype(np.float32)
    X[[3, 199]] = np.nan
    y = np.column_stack([rng.integers(20, 60, 200), rng.integers(0, 2, 200)])
    model = AgeGenderClassifier(epochs=1, random_state=0)
    with pytest.warns(PictureWarning):
        model.fit(X, y)
    whole = model.predict(X)
    monkeypatch.setattr(fitted_head, "PREDICTED_ROWS", 7)
    np.testing.assert_array_equal(model.predict(X), whole)
    assert np.isnan(whole[:, 0]).nonzero()[0].tolist() == [3, 199]
