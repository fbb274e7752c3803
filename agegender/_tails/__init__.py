"""The rest of a network after one of its layers, from ONNX or Keras, as layers that can be trained."""
