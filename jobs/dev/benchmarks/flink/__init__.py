"""The jobs that the job is measured against: the tutorials' way, and the job's own hops with nothing in them."""
