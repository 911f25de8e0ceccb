"""Users and items in one space, so that the nearest are found among very many."""
