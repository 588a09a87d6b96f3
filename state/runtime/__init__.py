"""How a process runs the project's compiled code: threads, and where kernels are kept."""
