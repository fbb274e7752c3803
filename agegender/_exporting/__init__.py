"""The implementation of export: a fitted pipeline as one ONNX graph."""
