"""What crosses the job's edges: records in and out, with the meaning and the bounds of each field, and their JSON."""
