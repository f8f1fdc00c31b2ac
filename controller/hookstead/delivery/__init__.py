"""The engine: routing, payload, signing, retry, pacing, and the loop that drives its ports."""
