"""The console script `riverrank`."""

# many: a module for each command there is
