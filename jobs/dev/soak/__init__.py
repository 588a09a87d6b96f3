"""`make soak`: whether a job that runs on and on takes more and more: memory, state and Redis, measured as slopes."""
