"""The same operators in one process, without Flink."""
