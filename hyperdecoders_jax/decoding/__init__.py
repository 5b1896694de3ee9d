"""Next-token function in, tokens out; knows no model."""
