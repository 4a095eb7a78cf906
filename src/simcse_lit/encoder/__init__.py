"""The sentence encoder: a backbone with its pooler and head, adapters and packed rows. Nothing here trains."""
