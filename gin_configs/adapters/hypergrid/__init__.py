"""What HyperGrid's variants share."""
