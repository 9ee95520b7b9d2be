"""Real servers for tests: databases, brokers and poolers, and what can be done to them."""
