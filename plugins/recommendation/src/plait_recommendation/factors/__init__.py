"""Users and items as vectors whose product says who likes what."""
