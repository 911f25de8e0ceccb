"""Who is speaking, and are these two the same? See `task` and `verification`; importing this package imports nothing
else."""
