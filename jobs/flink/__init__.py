"""The job on Flink: topology, sources, sinks, launch, and the jars it needs."""
