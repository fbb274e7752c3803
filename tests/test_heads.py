import keras
import numpy as np
import pytest
from sklearn.base import clone

from agegender import backbones
from agegender.heads import HEADS, ConvHead, DenseHead, head_layer, make_head


class Backbone:
    """A stand-in that knows the shapes of its layers, as a real one does."""

    def __init__(self, **shapes):
        self.shapes = shapes

    def output_shape(self, layer):
        return self.shapes[layer]


def layers(model):
    return [type(layer).__name__ for layer in model.layers]


def test_plain_dense_head_is_one_softmax_layer_per_output():
    model = DenseHead()((16,), 101, 2)
    assert layers(model) == ["InputLayer", "Dense", "Dense"]
    assert model.count_params() == 17 * 101 + 17 * 2
    age, gender = model(np.ones((3, 16), np.float32))
    assert age.shape == (3, 101)
    assert gender.shape == (3, 2)
    assert np.sum(age, axis=1) == pytest.approx(np.ones(3), abs=1e-5)


def test_plain_conv_head_is_conv_flatten_softmax():
    model = ConvHead()((7, 7, 8), 101, 2)
    assert layers(model) == ["InputLayer", "Conv2D", "Activation", "Flatten", "Dense", "Dense"]
    assert model.output_shape == [(None, 101), (None, 2)]


def test_dense_parameters_reach_the_layers():
    head = DenseHead((32, 8), dropout=0.25, batch_norm=True, activation="elu", weight_decay=0.01)
    model = head((16,), 101, 2)
    assert [layer.units for layer in model.layers if hasattr(layer, "units")] == [32, 8, 101, 2]
    assert [layer.rate for layer in model.layers if hasattr(layer, "rate")] == [0.25, 0.25, 0.25]
    assert layers(model).count("BatchNormalization") == 2
    assert {layer.activation.__name__ for layer in model.layers if "Activation" in type(layer).__name__} == {
        "elu"
    }
    kernels = [layer.kernel for layer in model.layers if hasattr(layer, "kernel")]
    penalty = 0.01 * sum(float(np.sum(np.square(kernel))) for kernel in kernels)
    assert float(sum(model.losses)) == pytest.approx(penalty, rel=1e-4)


def test_global_depthwise_leaves_one_number_a_channel():
    head = ConvHead(filters=(), depthwise="global", units=(8,), spatial_dropout=0.1)
    model = head((7, 5, 12), 101, 2)
    kinds = layers(model)
    assert kinds[:4] == ["InputLayer", "SpatialDropout2D", "DepthwiseConv2D", "Flatten"]
    assert model.layers[3].output.shape == (None, 12)


def test_pointwise_and_strided_convolutions_shape_the_map():
    model = ConvHead(filters=(6,), kernel_size=3, strides=2, pointwise=(4,), depthwise=3)((9, 9, 12), 101, 2)
    shapes = [tuple(layer.output.shape[1:]) for layer in model.layers if "Conv2D" in type(layer).__name__]
    assert shapes == [(7, 7, 12), (7, 7, 4), (3, 3, 6)]


@pytest.mark.parametrize(
    ("head", "shape", "message"),
    [
        (DenseHead(), (7, 7, 8), r"rows of shape \(7, 7, 8\).*penultimate"),
        (ConvHead(), (512,), "feature_map"),
        (ConvHead(kernel_size=5), (3, 3, 8), "kernel_size=5 does not fit a map of 3×3"),
        (ConvHead(depthwise="globl"), (3, 3, 8), "did you mean|Did you mean 'global'"),
        (DenseHead(units=(0,)), (8,), "positive whole numbers"),
        (DenseHead(units="256"), (8,), "positive whole numbers"),
    ],
)
def test_a_head_that_does_not_fit_says_why(head, shape, message):
    with pytest.raises(ValueError, match=message):
        head(shape, 101, 2)


def test_one_number_is_taken_for_a_tuple_of_one():
    assert layers(DenseHead(units=8)((4,), 101, 2)) == layers(DenseHead(units=(8,))((4,), 101, 2))


@pytest.mark.parametrize("name", HEADS)
def test_a_name_gives_a_head_of_ones_own(name):
    first, second = make_head(name), make_head(name)
    assert first is not second
    assert first.get_params() == second.get_params()
    assert clone(first).get_params() == first.get_params()


def test_unknown_names_and_classes_are_refused_with_advice():
    with pytest.raises(ValueError, match="Did you mean 'dense'"):
        make_head("dens")
    with pytest.raises(ValueError, match=r"pass an instance, DenseHead\(\)"):
        make_head(DenseHead)
    with pytest.raises(ValueError, match="neither a name"):
        make_head(3)


def test_dense_heads_read_the_penultimate_layer_unless_it_is_very_wide():
    assert head_layer("dense", Backbone(penultimate=(512,))) == "penultimate"
    assert head_layer("dense", Backbone(penultimate=(4096,))) == "penultimate"
    assert head_layer(DenseHead(), Backbone(penultimate=(25088,))) == "pooled"


def test_dense_heads_read_what_a_network_without_a_dense_layer_gives():
    layers = [keras.Input((16, 16, 3)), keras.layers.Conv2D(8, 3), keras.layers.GlobalAveragePooling2D()]
    averaging = backbones.Backbone.from_keras(keras.Sequential(layers))
    assert averaging.output_shape(head_layer("dense", averaging)) == (8,)
    assert averaging.output_shape(head_layer(DenseHead((32,)), averaging)) == (8,)


def test_conv_heads_read_the_feature_map_and_callables_what_a_dense_head_would():
    assert head_layer("conv", Backbone()) == "feature_map"
    assert head_layer(lambda shape, ages, genders: None, Backbone(penultimate=(512,))) == "penultimate"


def test_a_layer_that_is_named_wins():
    assert head_layer(DenseHead(layer="embedding"), Backbone()) == "embedding"
    assert head_layer(ConvHead(layer="_plus9"), Backbone()) == "_plus9"
