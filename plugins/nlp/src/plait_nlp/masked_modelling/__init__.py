"""Words that are hidden, told from those around them; and whether one text goes on where another ends."""
