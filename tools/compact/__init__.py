"""How the network `agegender/pretrained/compact.onnx` is made; started by `tools/train_compact.py`."""
