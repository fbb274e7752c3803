import numpy as np
import pytest
import tensorflow as tf

from agegender.losses import AGE_LOSSES, expected_age_error, gender_loss

AGES = np.arange(101)


def distribution(centre, width=4.0):
    p = np.exp(-0.5 * ((AGES - centre) / width) ** 2)
    return (p / p.sum()).astype(np.float32)[None]


def loss(name, age, proba, sigma=2.0):
    return float(np.asarray(AGE_LOSSES[name](np.array([age], np.float32), proba, sigma))[0])


def test_cross_entropy_is_minus_log_of_the_true_years_probability():
    assert loss("categorical_crossentropy", 30, distribution(33)) == pytest.approx(
        -np.log(distribution(33)[0, 30]), rel=1e-4
    )


def test_cross_entropy_rounds_an_age_between_two_years():
    p = distribution(33)
    assert loss("categorical_crossentropy", 30.4, p) == loss("categorical_crossentropy", 30, p)
    assert loss("categorical_crossentropy", 30.5, p) == loss("categorical_crossentropy", 31, p)


def test_label_distribution_is_cross_entropy_to_a_gaussian_of_width_sigma():
    p, target = distribution(33, 12.0), distribution(30.5, 3.0)
    assert loss("label_distribution", 30.5, p, sigma=3.0) == pytest.approx(
        -(target * np.log(p)).sum(), rel=1e-3
    )


def test_label_distribution_at_the_edge_is_still_a_distribution():
    p = np.full((1, 101), 1 / 101, np.float32)
    assert loss("label_distribution", 0, p) == pytest.approx(np.log(101), rel=1e-3)


@pytest.mark.parametrize("sigma", [1.0, 2.0, 6.0])
def test_label_distribution_has_its_label_as_its_mean_close_to_the_ends_too(sigma):
    ages = np.array([0.0, 0.5, 1.0, 2.0, 5.0, 30.0, 96.0, 99.0, 100.0], np.float32)
    logits = tf.Variable(np.zeros((len(ages), 101), np.float32))
    with tf.GradientTape() as tape:
        probabilities = tf.nn.softmax(logits)
        losses = tf.reduce_sum(AGE_LOSSES["label_distribution"](ages, probabilities, sigma))
    target = 1 / 101 - tape.gradient(losses, logits).numpy()  # the gradient is prediction minus target
    np.testing.assert_allclose(target @ AGES, ages, atol=0.02)


def test_mean_variance_adds_its_two_terms_to_cross_entropy():
    p = distribution(33)
    mean = (p * AGES).sum()
    variance = (p * (AGES - mean) ** 2).sum()
    expected = loss("categorical_crossentropy", 30, p) + 0.1 * (mean - 30) ** 2 + 0.05 * variance
    assert loss("mean_variance", 30, p) == pytest.approx(expected, rel=1e-3)


def test_ordinal_is_the_sum_of_binary_cross_entropies_over_thresholds():
    p = distribution(33, 8.0).astype(np.float64)
    below = np.cumsum(p[0])[:-1]
    older = (AGES[:-1] < 30).astype(float)
    expected = -(older * np.log(1 - below) + (1 - older) * np.log(below)).sum()
    assert loss("ordinal", 30, p.astype(np.float32)) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("name", AGE_LOSSES)
def test_every_loss_is_least_for_a_distribution_around_the_truth(name):
    losses = [loss(name, 40.0, distribution(centre)) for centre in (20, 30, 36, 40, 44, 50, 60)]
    assert int(np.argmin(losses)) == 3
    assert losses[0] > losses[1] > losses[2]


@pytest.mark.parametrize("name", AGE_LOSSES)
def test_every_loss_and_its_gradient_stay_finite_for_a_head_that_is_surely_wrong(name):
    logits = tf.Variable(np.eye(101, dtype=np.float32)[[100, 0]] * 80)
    with tf.GradientTape() as tape:
        value = AGE_LOSSES[name](tf.constant([0.0, 100.0]), tf.nn.softmax(logits), 2.0)
    assert np.isfinite(value.numpy()).all()
    assert np.isfinite(tape.gradient(value, logits).numpy()).all()


def test_expected_age_error_is_in_years():
    error = expected_age_error(np.array([30.0], np.float32), distribution(33.0))
    assert float(np.asarray(error)[0]) == pytest.approx(3.0, abs=1e-3)


def test_gender_loss_is_minus_log_of_the_true_genders_probability():
    value = gender_loss(np.array([0, 1]), np.array([[0.8, 0.2], [0.8, 0.2]], np.float32))
    assert np.asarray(value).tolist() == pytest.approx([-np.log(0.8), -np.log(0.2)], rel=1e-4)
