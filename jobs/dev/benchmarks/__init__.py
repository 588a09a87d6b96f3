"""`make bench`: what the job costs, in time and bytes, beside what it could cost; each measure is a module."""
