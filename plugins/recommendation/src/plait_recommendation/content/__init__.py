"""What items are about, and who likes what is about the same."""
