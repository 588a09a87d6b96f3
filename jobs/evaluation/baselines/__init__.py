"""What `riverrank evaluate` puts beside the job: policies of one idea each."""
