"""Face detectors on ONNX Runtime and OpenCV."""
