"""What followers of the topics saw of late: bounded, in memory, for a page to show. Nothing is written anywhere."""
