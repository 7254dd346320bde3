"""Seeing faces: detection and ID embedding (insightface packs), face parsing (BiSeNet or ONNX)."""
