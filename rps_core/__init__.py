"""STABLE-RPS: randomized parameter sharing (arXiv:2310.11611) for PyTorch models."""
