"""How good slates are: metrics, baselines, drift, the simulated shop."""
