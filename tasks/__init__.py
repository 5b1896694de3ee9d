"""SeqIO tasks and mixtures: records in, text and metrics out."""
