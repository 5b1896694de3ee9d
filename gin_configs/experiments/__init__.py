"""One file an experiment: its includes, what differs, what to expect."""
