"""Models as ONNX graphs, for runtimes without Python, such as onnxruntime-web in a browser."""
