"""The console script `riverrank`."""
