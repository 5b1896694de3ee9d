"""What a trained hypernetwork reads and writes, measured and pictured."""
