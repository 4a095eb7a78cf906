"""The sentence encoder: a backbone with its pooler and projection, adapters, packed rows."""
