"""The compiled loops of training and evaluation."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from agegender._fitting.averages import Averages
from agegender._fitting.settings import Settings
from agegender.losses import AGE_LOSSES, expected_age_error, gender_loss

__all__ = ["compile_evaluation", "compile_steps"]


def compile_steps(
    model: Any, optimizer: Any, averages: Averages, rows: NDArray[Any], settings: Settings
) -> Any:
    """Return a function that makes the steps of a chunk of rows, and returns the sum of their losses.

    It takes the chunk, and per row of the steps: its place in the chunk, age, gender and weight; with mixup also the
    number of the row that it is mixed with, and its own share of the mixture. Last come the bounds of the steps.
    """
    import tensorflow as tf

    age_loss = AGE_LOSSES[settings.age_loss]

    def loss_of(outputs: Any, ages: Any, genders: Any, weights: Any) -> Any:
        age, gender = outputs
        losses = age_loss(ages, age, settings.age_sigma)
        losses += settings.gender_weight * gender_loss(genders, gender)
        if settings.expected_age_weight:
            losses += settings.expected_age_weight * expected_age_error(ages, age)
        return tf.reduce_sum(losses * weights)

    def step(batch: Any, targets: list[tuple[Any, Any, Any]]) -> Any:
        with tf.GradientTape() as tape:
            outputs = model(batch, training=True)
            total = tf.add_n([loss_of(outputs, *target) for target in targets])
            loss = total / tf.cast(tf.shape(batch)[0], tf.float32)
            if model.losses:
                loss += tf.add_n([tf.cast(penalty, tf.float32) for penalty in model.losses])
        optimizer.apply(tape.gradient(loss, model.trainable_variables))
        averages.follow()
        return total

    types = [
        "int32",
        "float32",
        "int32",
        "float32",
        *(["int32", "float32"] if settings.mixup else []),
        "int32",
    ]

    @tf.function(autograph=False, input_signature=[_spec(rows), *(tf.TensorSpec([None], t) for t in types)])
    def steps(values: Any, picks: Any, ages: Any, genders: Any, weights: Any, *rest: Any) -> Any:
        *mixing, bounds = rest

        def body(i: Any, total: Any) -> tuple[Any, Any]:
            part = slice(bounds[i], bounds[i + 1])
            batch = tf.cast(tf.gather(values, picks[part]), tf.float32)
            targets = [(ages[part], genders[part], weights[part])]
            if mixing:
                others, shares = (numbers[part] for numbers in mixing)
                own = tf.reshape(shares, [-1] + [1] * (len(batch.shape) - 1))
                batch = own * batch + (1 - own) * tf.cast(
                    tf.gather(values, tf.gather(picks, others)), tf.float32
                )
                age, gender, weight = (tf.gather(labels, others) for labels in (ages, genders, weights))
                targets = [
                    (ages[part], genders[part], weights[part] * shares),
                    (age, gender, weight * (1 - shares)),
                ]
            return i + 1, total + step(batch, targets)

        n_steps = tf.shape(bounds)[0] - 1
        # Steps must run one after the other, because each starts from the weights of the previous one.
        return tf.while_loop(lambda i, total: i < n_steps, body, (0, 0.0), parallel_iterations=1)[1]

    return steps.get_concrete_function()


def compile_evaluation(model: Any, rows: NDArray[Any]) -> Any:
    """Return a function that gives the mean ages and the gender probabilities of some rows of a chunk."""
    import tensorflow as tf

    @tf.function(autograph=False, input_signature=[_spec(rows), tf.TensorSpec([None], "int32")])
    def evaluate(values: Any, picks: Any) -> Any:
        age, gender = model(tf.cast(tf.gather(values, picks), tf.float32), training=False)
        return tf.linalg.matvec(age, tf.range(age.shape[-1], dtype=tf.float32)), gender

    return evaluate.get_concrete_function()


def _spec(rows: NDArray[Any]) -> Any:
    import tensorflow as tf

    return tf.TensorSpec([None, *rows.shape[1:]], rows.dtype)
