"""What tells the world about a line, each in a process of its own: servers, brokers, pages."""
