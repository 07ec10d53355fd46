"""SG3xx: what code does with the sessions it has."""
