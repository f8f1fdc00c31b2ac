"""The custom resources as typed values: parse, defaults, validation, conditions, status."""
