"""transformers' classes of exported models, tokenizer files and model cards."""
