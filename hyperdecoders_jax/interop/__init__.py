"""Parameters as others name and store them."""
