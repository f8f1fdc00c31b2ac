"""The engines behind the Store port."""
