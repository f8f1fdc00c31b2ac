"""Kubernetes: watch, compile, publish, report."""
