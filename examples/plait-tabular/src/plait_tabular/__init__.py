"""Classification of table rows for Plait."""
