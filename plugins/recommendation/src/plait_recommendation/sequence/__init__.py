"""What comes next, told by the order of what came before."""
