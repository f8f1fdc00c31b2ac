"""The commands of `kubectl hooks`, a module each."""
