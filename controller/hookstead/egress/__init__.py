"""The only way out: resolver, address policy, sockets, TLS, response caps."""
