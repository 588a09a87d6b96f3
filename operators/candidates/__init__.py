"""Where candidates come from and what describes them: sources, features, retrieval."""
