"""How do posteriors become texts? See `search`, `ngram` and `words`; importing this package imports nothing else."""
