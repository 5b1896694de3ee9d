"""One file a mixture: its task module, name and feature lengths."""
