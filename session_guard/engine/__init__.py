"""What is known of one engine: its URL, its settings, what they are worth and how to mend them."""
