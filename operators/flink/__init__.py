"""The operators as Flink sees them; the only folder of `operators` that knows Flink's contexts and imports PyFlink."""
