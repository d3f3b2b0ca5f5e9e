"""The page of ``openpali serve`` without a server: the models run in the browser, on onnxruntime-web."""
