"""Every format of weights, read and written."""
