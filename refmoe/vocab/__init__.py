"""Vocabularies: every published form of tokenizer file, as one tokenizer.json."""
