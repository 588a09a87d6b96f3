"""The console script `riverrank`."""

INTERRUPTED = 130  # the exit code after Ctrl-C, as a shell has it

# many: a module for each command there is
