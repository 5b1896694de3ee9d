"""One file a method: where adapters sit and what makes them."""
