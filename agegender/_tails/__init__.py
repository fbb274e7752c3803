"""The part of a network after one of its layers, from ONNX or Keras, as trainable Keras layers."""
