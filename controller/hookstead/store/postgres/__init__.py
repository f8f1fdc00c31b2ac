"""The store that several gateways can share: one PostgreSQL database, where what must be whole is one statement."""
