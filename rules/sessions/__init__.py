"""SG1xx: how sessions and their factories are made."""
