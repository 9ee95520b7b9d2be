"""The fault laboratory: whole members on real servers, each on a "host" of its own, struck by a seeded plan of faults."""
