"""What developers run: benchmarks, the bundle, real services and clusters for tests and the demo."""
