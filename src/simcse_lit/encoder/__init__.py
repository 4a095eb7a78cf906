"""A backbone with its pooler and projection: loading, adapters, packed rows."""
